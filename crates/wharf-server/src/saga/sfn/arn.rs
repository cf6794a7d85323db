//! Names of machines, executions and activities as Amazon writes them.
//!
//! Region and account are taken whatever they are, so that what was written for an account of Amazon's
//! names the same things here; answers always say `wharf` and zeros.

use super::fault::Fault;

/// What answers begin with.
const OURS: &str = "arn:aws:states:wharf:000000000000";
/// The longest ARN that is looked at.
const BYTES_MAX: usize = 2_048;

/// What an ARN names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Arn {
    /// A machine, by its name.
    Machine(String),
    /// A published version of a machine.
    Version(String, u32),
    /// An alias of a machine.
    Alias(String, String),
    /// An execution: its machine's name and its own.
    Execution(String, String),
    /// An activity.
    Activity(String),
}

impl Arn {
    /// Reads an ARN of Step Functions; `wanted` says in the refusal what was asked for.
    pub(super) fn read(text: &str, wanted: &str) -> Result<Self, Fault> {
        Self::parse(text).ok_or_else(|| Fault::arn(text, wanted))
    }

    fn parse(text: &str) -> Option<Self> {
        if text.len() > BYTES_MAX {
            return None;
        }
        let mut parts = text.splitn(7, ':');
        let partition = (parts.next()? == "arn").then(|| parts.next())??;
        let is_states = partition.starts_with("aws") && parts.next()? == "states";
        let (_region, _account, kind) = (parts.next()?, parts.next()?, parts.next()?);
        let rest = parts.next().filter(|rest| is_states && !rest.is_empty())?;
        let pair = rest.split_once(':');
        Some(match (kind, pair) {
            ("stateMachine", None) => Self::Machine(rest.to_owned()),
            ("stateMachine", Some((name, behind))) if is_part(name) && is_part(behind) => {
                match behind.parse() {
                    Ok(version) => Self::Version(name.to_owned(), version),
                    Err(_no_number) => Self::Alias(name.to_owned(), behind.to_owned()),
                }
            }
            ("execution", Some((machine, name))) if is_part(machine) && !name.is_empty() => {
                Self::Execution(machine.to_owned(), name.to_owned())
            }
            ("activity", None) => Self::Activity(rest.to_owned()),
            _ => return None,
        })
    }

    /// The name of the machine, and of nothing narrower.
    pub(super) fn machine(text: &str) -> Result<String, Fault> {
        let wanted = "a state machine";
        match Self::read(text, wanted)? {
            Self::Machine(name) => Ok(name),
            _ => Err(Fault::arn(text, wanted)),
        }
    }

    /// The names of an execution's machine and of itself.
    pub(super) fn execution(text: &str) -> Result<(String, String), Fault> {
        let wanted = "an execution";
        match Self::read(text, wanted)? {
            Self::Execution(machine, name) => Ok((machine, name)),
            _ => Err(Fault::arn(text, wanted)),
        }
    }

    /// The name of an activity.
    pub(super) fn activity(text: &str) -> Result<String, Fault> {
        let wanted = "an activity";
        match Self::read(text, wanted)? {
            Self::Activity(name) => Ok(name),
            _ => Err(Fault::arn(text, wanted)),
        }
    }

    /// A machine's name and the version of it.
    pub(super) fn version(text: &str) -> Result<(String, u32), Fault> {
        let wanted = "a version of a state machine";
        match Self::read(text, wanted)? {
            Self::Version(machine, version) => Ok((machine, version)),
            _ => Err(Fault::arn(text, wanted)),
        }
    }

    /// A machine's name and the alias of it.
    pub(super) fn alias(text: &str) -> Result<(String, String), Fault> {
        let wanted = "an alias of a state machine";
        match Self::read(text, wanted)? {
            Self::Alias(machine, alias) => Ok((machine, alias)),
            _ => Err(Fault::arn(text, wanted)),
        }
    }
}

fn is_part(text: &str) -> bool {
    !text.is_empty() && !text.contains(':')
}

impl std::fmt::Display for Arn {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Machine(name) => write!(formatter, "{OURS}:stateMachine:{name}"),
            Self::Version(name, version) => {
                write!(formatter, "{OURS}:stateMachine:{name}:{version}")
            }
            Self::Alias(name, alias) => write!(formatter, "{OURS}:stateMachine:{name}:{alias}"),
            Self::Execution(machine, name) => {
                write!(formatter, "{OURS}:execution:{machine}:{name}")
            }
            Self::Activity(name) => write!(formatter, "{OURS}:activity:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_region_and_account_name_the_same_thing() {
        let ours = "arn:aws:states:wharf:000000000000:stateMachine:Order";
        for text in [
            ours,
            "arn:aws-cn:states:cn-north-1:123456789012:stateMachine:Order",
        ] {
            let arn = Arn::parse(text).unwrap();
            assert_eq!(arn, Arn::Machine("Order".to_owned()));
            assert_eq!(arn.to_string(), ours);
        }
    }

    #[test]
    fn what_every_arn_says_is_read_as_it_was_written() {
        for arn in [
            Arn::Machine("a".to_owned()),
            Arn::Version("a".to_owned(), 3),
            Arn::Alias("a".to_owned(), "live".to_owned()),
            Arn::Execution("a".to_owned(), "order:7".to_owned()),
            Arn::Activity("pack".to_owned()),
        ] {
            assert_eq!(Arn::parse(&arn.to_string()), Some(arn));
        }
    }

    #[test]
    fn what_names_nothing_here_is_refused() {
        for text in [
            "",
            "Order",
            "arn:aws:states:wharf:000000000000:stateMachine:",
            "arn:aws:states:wharf:000000000000:stateMachine:a:1:2",
            "arn:aws:states:wharf:000000000000:execution:a",
            "arn:aws:states:wharf:000000000000:execution::a",
            "arn:aws:states:wharf:000000000000:mapRun:a/b:c",
            "arn:aws:lambda:eu-west-1:123456789012:function:a",
        ] {
            assert_eq!(Arn::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_arn_that_is_cut_or_changed_anywhere_is_read_or_refused() {
        let whole = Arn::Execution("a".to_owned(), "order:7".to_owned()).to_string();
        for at in 0..whole.len() {
            let (before, behind) = whole.split_at(at);
            for text in [
                before.to_owned(),
                format!("{before}:{behind}"),
                format!("{before}é{behind}"),
            ] {
                if let Some(arn) = Arn::parse(&text) {
                    assert_eq!(Arn::parse(&arn.to_string()), Some(arn), "{text}");
                }
            }
        }
        assert_eq!(Arn::parse(&"x".repeat(BYTES_MAX + 1)), None);
    }
}
