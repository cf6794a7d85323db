//! Every route of Confluent's API, done or absent with its reason: the table that requests are matched
//! with, and that `docs/reference/registry-api.md` is generated from.
//!
//! A route is matched on decoded segments, so no encoding of a name can make it another route. What is
//! written out wins over a placeholder.

use std::fmt::Write as _;

use axum::http::Method;
use wharf_schema::registry::{Refusal, Registered, Registry, Subject};

use super::answer::Answer;
use super::handlers::{compatibility, config, metadata, mode, schemas, subjects};
use super::request::Request;
use super::serve::Service;
use super::store::Change;

type Query = fn(&Registry, &Request) -> Result<Answer, Refusal>;

/// What a route does.
#[derive(Clone, Copy)]
pub(super) enum Handler {
    /// It does not depend on what is registered.
    Plain(fn(&Service, &Request) -> Result<Answer, Refusal>),
    /// It looks something up.
    Query(Query),
    /// The same, and who asked is noted.
    Fetch(fn(&Registry, &Request) -> Result<Noted, Refusal>),
    /// It has to understand the schema in the body.
    Parse(Query),
    /// It may take long: it compares schemas, or lists many.
    Heavy(Query),
    /// It changes something.
    Change(fn(&Request) -> Result<Change, Refusal>),
    /// The same; first it is looked whether there is nothing to change.
    Register(
        fn(&Registry, &Request) -> Result<Option<Answer>, Refusal>,
        fn(&Request) -> Result<Change, Refusal>,
    ),
}

/// An answer with a schema that somebody reads with.
pub(super) struct Noted {
    pub(super) answer: Answer,
    pub(super) context: String,
    pub(super) id: i32,
}

impl Noted {
    pub(super) fn of(version: &Registered, answer: Answer) -> Self {
        Self {
            answer,
            context: Subject::parse(&version.subject).context().to_owned(),
            id: version.id,
        }
    }
}

/// Whether a route is there.
#[derive(Clone, Copy)]
pub(super) enum Status {
    /// It is, and does this.
    Done(Handler),
    /// It is not, for this reason; it answers 404.
    Absent(&'static str),
}

/// A route of the API.
pub(super) struct Route {
    method: Method,
    /// With placeholders, such as `/subjects/{subject}`.
    pub(super) path: &'static str,
    /// What it is for, in a few words.
    about: &'static str,
    pub(super) status: Status,
}

/// What a method and a path lead to.
pub(super) enum Found {
    /// A route, and the values of its placeholders.
    Route(&'static Route, Vec<(&'static str, String)>),
    /// The path is known with these methods.
    OtherMethods(String),
    /// There is nothing.
    Nothing,
}

const fn done(method: Method, path: &'static str, about: &'static str, does: Handler) -> Route {
    Route {
        method,
        path,
        about,
        status: Status::Done(does),
    }
}

const fn absent(method: Method, path: &'static str, why: &'static str) -> Route {
    Route {
        method,
        path,
        about: "",
        status: Status::Absent(why),
    }
}

const GET: Method = Method::GET;
const PUT: Method = Method::PUT;
const POST: Method = Method::POST;
const DELETE: Method = Method::DELETE;

use Handler::{Change as Changes, Fetch, Heavy, Parse, Plain, Query as Queries, Register};

const ASSOCIATIONS: &str = "clients that ask go on with the subject that the topic's name gives";
const EXPORTERS: &str = "Confluent Enterprise only; topics are copied with any Kafka client";
const DEKS: &str =
    "keys of encrypted fields are kept by a key management service, not by this registry";

/// All of them, in the order of the documentation.
static ROUTES: &[Route] = &[
    done(GET, "/", "whether it is there", Plain(metadata::root)),
    done(POST, "/", "whether it is there", Plain(metadata::root)),
    done(
        GET,
        "/schemas",
        "versions of all subjects",
        Heavy(schemas::list),
    ),
    done(
        GET,
        "/schemas/types",
        "the kinds of schema",
        Plain(metadata::types),
    ),
    done(
        GET,
        "/schemas/ids/{id}",
        "a schema by its id",
        Fetch(schemas::by_id),
    ),
    done(
        GET,
        "/schemas/ids/{id}/schema",
        "its text alone",
        Fetch(schemas::text_by_id),
    ),
    done(
        GET,
        "/schemas/ids/{id}/subjects",
        "the subjects that have it",
        Queries(schemas::subjects),
    ),
    done(
        GET,
        "/schemas/ids/{id}/versions",
        "the versions that it is",
        Queries(schemas::versions),
    ),
    done(
        GET,
        "/schemas/guids/{guid}",
        "a schema by its GUID",
        Fetch(schemas::by_guid),
    ),
    done(
        GET,
        "/schemas/guids/{guid}/ids",
        "its ids, by context",
        Queries(schemas::ids),
    ),
    done(GET, "/subjects", "the subjects", Heavy(subjects::list)),
    done(
        POST,
        "/subjects/{subject}",
        "look a schema up",
        Parse(subjects::lookup),
    ),
    done(
        DELETE,
        "/subjects/{subject}",
        "delete a subject, soft or for good",
        Changes(subjects::delete),
    ),
    done(
        GET,
        "/subjects/{subject}/metadata",
        "the latest version with given metadata",
        Queries(subjects::with_metadata),
    ),
    done(
        GET,
        "/subjects/{subject}/versions",
        "the versions of a subject",
        Queries(subjects::versions),
    ),
    done(
        POST,
        "/subjects/{subject}/versions",
        "register a schema",
        Register(subjects::known, subjects::register),
    ),
    done(
        GET,
        "/subjects/{subject}/versions/{version}",
        "a version",
        Fetch(subjects::version),
    ),
    done(
        DELETE,
        "/subjects/{subject}/versions/{version}",
        "delete a version, soft or for good",
        Changes(subjects::delete_version),
    ),
    done(
        GET,
        "/subjects/{subject}/versions/{version}/schema",
        "its text alone",
        Fetch(subjects::text),
    ),
    done(
        GET,
        "/subjects/{subject}/versions/{version}/referencedby",
        "ids of the schemas that use it",
        Queries(subjects::referenced_by),
    ),
    done(
        POST,
        "/subjects/{subject}/versions/{version}/tags",
        "a new version with other tags, metadata or rules",
        Changes(subjects::tags),
    ),
    done(
        POST,
        "/compatibility/subjects/{subject}/versions",
        "whether a schema could be registered",
        Heavy(compatibility::all),
    ),
    done(
        POST,
        "/compatibility/subjects/{subject}/versions/{version}",
        "whether it is compatible with one version",
        Heavy(compatibility::one),
    ),
    done(
        GET,
        "/config",
        "the configuration of all subjects",
        Queries(config::get),
    ),
    done(PUT, "/config", "change it", Changes(config::put)),
    done(
        DELETE,
        "/config",
        "back to the defaults",
        Changes(config::delete),
    ),
    done(
        GET,
        "/config/{subject}",
        "the configuration of a subject or a context",
        Queries(config::get),
    ),
    done(PUT, "/config/{subject}", "change it", Changes(config::put)),
    done(
        DELETE,
        "/config/{subject}",
        "back to that of all subjects",
        Changes(config::delete),
    ),
    done(GET, "/mode", "the mode of all subjects", Queries(mode::get)),
    done(PUT, "/mode", "change it", Changes(mode::put)),
    done(
        DELETE,
        "/mode",
        "back to the default",
        Changes(mode::delete),
    ),
    done(
        GET,
        "/mode/{subject}",
        "the mode of a subject or a context",
        Queries(mode::get),
    ),
    done(PUT, "/mode/{subject}", "change it", Changes(mode::put)),
    done(
        DELETE,
        "/mode/{subject}",
        "back to that of all subjects",
        Changes(mode::delete),
    ),
    done(GET, "/contexts", "the contexts", Heavy(metadata::contexts)),
    done(
        DELETE,
        "/contexts/{context}",
        "delete an empty context",
        Changes(metadata::delete_context),
    ),
    done(
        GET,
        "/v1/metadata/id",
        "the id of the cluster",
        Plain(metadata::id),
    ),
    done(
        GET,
        "/v1/metadata/version",
        "the version of the server",
        Plain(metadata::version),
    ),
    done(
        GET,
        "/v1/metadata/deployment",
        "what the deployment can do",
        Plain(metadata::deployment),
    ),
    absent(GET, "/associations/subjects/{subject}", ASSOCIATIONS),
    absent(GET, "/associations/resources/{id}", ASSOCIATIONS),
    absent(PUT, "/associations/resources/{id}", ASSOCIATIONS),
    absent(DELETE, "/associations/resources/{id}", ASSOCIATIONS),
    absent(
        GET,
        "/associations/resources/{namespace}/{name}",
        ASSOCIATIONS,
    ),
    absent(POST, "/associations", ASSOCIATIONS),
    absent(POST, "/associations:batchGet", ASSOCIATIONS),
    absent(POST, "/associations:batchMutate", ASSOCIATIONS),
    absent(GET, "/exporters", EXPORTERS),
    absent(GET, "/exporters/{name}", EXPORTERS),
    absent(GET, "/dek-registry/v1/keks", DEKS),
    absent(GET, "/dek-registry/v1/keks/{name}", DEKS),
];

/// The route for a request.
pub(super) fn find(method: &Method, segments: &[String]) -> Found {
    let mut best: Option<(usize, &'static Route)> = None;
    let mut methods: Vec<&str> = Vec::new();
    for route in ROUTES {
        let Some(written) = matches(route.path, segments) else {
            continue;
        };
        if route.method == *method {
            if best.is_none_or(|(most, _)| written > most) {
                best = Some((written, route));
            }
        } else {
            methods.push(route.method.as_str());
        }
    }
    match best {
        Some((_, route)) => Found::Route(route, parameters(route.path, segments)),
        None if methods.is_empty() => Found::Nothing,
        None => {
            methods.dedup();
            Found::OtherMethods(methods.join(", "))
        }
    }
}

/// How many segments are as they are written out, if all fit.
fn matches(path: &str, segments: &[String]) -> Option<usize> {
    let mut parts = path[1..].split('/').filter(|part| !part.is_empty());
    let mut written = 0;
    for segment in segments {
        let part = parts.next()?;
        if !part.starts_with('{') {
            if part != segment {
                return None;
            }
            written += 1;
        } else if segment.is_empty() {
            return None;
        }
    }
    parts.next().is_none().then_some(written)
}

fn parameters(path: &'static str, segments: &[String]) -> Vec<(&'static str, String)> {
    let parts = path[1..].split('/').zip(segments);
    parts
        .filter_map(|(part, segment)| {
            let name = part.strip_prefix('{')?.strip_suffix('}')?;
            Some((name, segment.clone()))
        })
        .collect()
}

/// The Markdown of `docs/reference/registry-api.md`.
pub fn reference() -> String {
    let mut text = String::from(
        "# The registry's API\n\n\
         Generated from the routes by a test; do not edit.\n\
         It is Confluent's, as of Schema Registry 8; [operate the registry](../operating/registry.md) says what differs.\n\n\
         - Every route is also there under `/contexts/{context}`, for the subjects of that context.\n\
         - A slash at the end, unknown parameters, and the case of `true` make no difference.\n\
         - What is not in the table is answered with 404, a known path with another method with 405, both as JSON.\n\n\
         | method | path | what | status |\n|---|---|---|---|\n",
    );
    for route in ROUTES {
        let (method, path) = (&route.method, route.path);
        let (about, status) = match route.status {
            Status::Done(_) => (route.about, "done".to_owned()),
            Status::Absent(why) => ("", format!("absent: {why}")),
        };
        writeln!(text, "| `{method}` | `{path}` | {about} | {status} |")
            .expect("a String takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str) -> Option<(&'static str, Vec<String>)> {
        let segments: Vec<_> = path[1..].split('/').map(str::to_owned).collect();
        match find(&GET, &segments) {
            Found::Route(route, parameters) => {
                let values = parameters.into_iter().map(|(_, value)| value);
                Some((route.path, values.collect()))
            }
            _ => None,
        }
    }

    #[test]
    fn what_is_written_out_wins_and_placeholders_take_anything_but_nothing() {
        let (path, values) = found("/subjects/metadata/metadata").unwrap();
        assert_eq!(path, "/subjects/{subject}/metadata");
        assert_eq!(values, ["metadata"]);
        assert!(found("/subjects//versions").is_none());
        assert!(found("/nothing").is_none());
    }

    #[test]
    fn a_known_path_with_another_method_says_which_there_are() {
        let segments = ["config".to_owned()];
        let Found::OtherMethods(methods) = find(&POST, &segments) else {
            panic!("a route");
        };
        assert_eq!(methods, "GET, PUT, DELETE");
    }

    #[test]
    fn no_route_is_there_twice() {
        for (at, route) in ROUTES.iter().enumerate() {
            let again = ROUTES[..at]
                .iter()
                .any(|other| other.method == route.method && other.path == route.path);
            assert!(!again, "{} {}", route.method, route.path);
        }
    }
}
