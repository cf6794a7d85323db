//! What steps are made of.

use serde_json::{Map, Value, json};

use super::Branch;

type Fields = Map<String, Value>;

fn with(mut fields: Fields, name: &str, value: Value) -> Fields {
    fields.insert(name.to_owned(), value);
    fields
}

macro_rules! fields {
    ($(#[doc = $what:literal])* $kind:ident { $($(#[doc = $doc:literal])* $name:ident($arg:ident: $type:ty) = $field:literal;)* }) => {
        $(#[doc = $what])*
        #[derive(Clone, Debug)]
        #[must_use]
        pub struct $kind(pub(super) Fields);

        impl $kind {
            $($(#[doc = $doc])* pub fn $name(self, $arg: $type) -> Self {
                Self(with(self.0, $field, json!($arg)))
            })*
        }
    };
}

macro_rules! resources {
    ($kind:ident) => {
        impl $kind {
            /// By a resource as it is written: `wharf:…` or an ARN.
            pub fn resource(resource: &str) -> Self {
                Self(with(Map::new(), "Resource", json!(resource)))
            }

            /// By whoever reads the commands of a topic.
            pub fn topic(name: &str) -> Self {
                Self::resource(&format!("wharf:topic:{name}"))
            }

            /// By an HTTP service.
            pub fn http(name: &str) -> Self {
                Self::resource(&format!("wharf:http:{name}"))
            }

            /// By a handler in the process.
            pub fn handler(name: &str) -> Self {
                Self::resource(&format!("wharf:handler:{name}"))
            }

            /// By workers that ask for work.
            pub fn activity(name: &str) -> Self {
                Self::resource(&format!("wharf:activity:{name}"))
            }

            /// By another saga.
            pub fn saga(name: &str) -> Self {
                Self::resource(&format!("wharf:saga:{name}"))
            }
        }
    };
}

fields! {
    /// Work of somebody else.
    Step {
        /// How long an attempt may take, in seconds.
        timeout(seconds: u64) = "TimeoutSeconds";
        /// How long the worker may be silent, in seconds.
        heartbeat(seconds: u64) = "HeartbeatSeconds";
        /// What goes to the worker: a payload template (JSONPath).
        arguments(template: Value) = "Parameters";
        /// What goes to the worker (JSONata).
        jsonata(template: Value) = "Arguments";
        /// Where the result goes in the data (JSONPath).
        result_path(path: &str) = "ResultPath";
        /// What goes on (JSONata).
        output(template: Value) = "Output";
        /// How many sagas may be in this step at once.
        concurrency(limit: u32) = "ConcurrencyLimit";
        /// A sentence about it.
        comment(text: &str) = "Comment";
    }
}

fields! {
    /// How a state is undone.
    Undo {
        /// How long an attempt may take, in seconds.
        timeout(seconds: u64) = "TimeoutSeconds";
        /// What goes to the worker: a payload template (JSONPath).
        arguments(template: Value) = "Parameters";
        /// What goes to the worker (JSONata).
        jsonata(template: Value) = "Arguments";
    }
}

resources!(Step);
resources!(Undo);

impl Undo {
    /// When it is tried again; more than one is asked in order.
    pub fn retry(mut self, retry: Retry) -> Self {
        let list = self.0.entry("Retry").or_insert_with(|| json!([]));
        if let Value::Array(items) = list {
            items.push(Value::Object(retry.0));
        }
        self
    }

    /// Takes a step of which nobody knows whether it was done as not done.
    pub fn skip_unknown(self) -> Self {
        Self(with(self.0, "OnUnknown", json!("Skip")))
    }

    /// Lets a person decide about a step of which nobody knows whether it was done.
    pub fn park_unknown(self) -> Self {
        Self(with(self.0, "OnUnknown", json!("Park")))
    }

    /// Goes on undoing the rest when this has failed for good.
    pub fn or_continue(self) -> Self {
        Self(with(self.0, "OnFailure", json!("Continue")))
    }
}

fields! {
    /// When something is tried again.
    Retry {
        /// How often.
        attempts(most: u64) = "MaxAttempts";
        /// How long to wait before the first time, in seconds.
        interval(seconds: u64) = "IntervalSeconds";
        /// What the wait is multiplied with each time.
        backoff(rate: f64) = "BackoffRate";
        /// How long the wait may become, in seconds.
        delay_max(seconds: u64) = "MaxDelaySeconds";
    }
}

impl Retry {
    /// At any error.
    pub fn any() -> Self {
        Self::on(&["States.ALL"])
    }

    /// At these errors.
    pub fn on(errors: &[&str]) -> Self {
        Self(with(Map::new(), "ErrorEquals", json!(errors)))
    }

    /// With waits that are random up to their length.
    pub fn jitter(self) -> Self {
        Self(with(self.0, "JitterStrategy", json!("FULL")))
    }
}

fields! {
    /// Where a state goes with errors.
    Catch {
        /// Where the error goes in the data (JSONPath).
        result_path(path: &str) = "ResultPath";
        /// What goes on (JSONata).
        output(template: Value) = "Output";
    }
}

impl Catch {
    /// With any error.
    pub fn any(next: &str) -> Self {
        Self::on(&["States.ALL"], next)
    }

    /// With these errors.
    pub fn on(errors: &[&str], next: &str) -> Self {
        Self(with(
            with(Map::new(), "ErrorEquals", json!(errors)),
            "Next",
            json!(next),
        ))
    }
}

/// A rule of a choice.
#[derive(Clone, Debug)]
#[must_use]
pub struct When(pub(super) Fields);

impl When {
    /// A comparison of JSONPath by the name the language has for it, such as
    /// `When::is("$.total", "NumericGreaterThan", 100, "Large")`.
    pub fn is(variable: &str, test: &str, other: impl Into<Value>, next: &str) -> Self {
        Self(with(
            Self::compare(variable, test, other),
            "Next",
            json!(next),
        ))
    }

    /// A condition of JSONata.
    pub fn holds(condition: &str, next: &str) -> Self {
        Self(with(
            with(Map::new(), "Condition", json!(condition)),
            "Next",
            json!(next),
        ))
    }

    /// Every comparison holds; make them with [`When::compare`].
    pub fn all(of: &[Fields], next: &str) -> Self {
        Self(with(
            with(Map::new(), "And", json!(of)),
            "Next",
            json!(next),
        ))
    }

    /// At least one comparison holds; make them with [`When::compare`].
    pub fn any(of: &[Fields], next: &str) -> Self {
        Self(with(with(Map::new(), "Or", json!(of)), "Next", json!(next)))
    }

    /// The opposite of a comparison, to stand in [`When::all`] or [`When::any`].
    pub fn not(of: Fields) -> Fields {
        with(Map::new(), "Not", Value::Object(of))
    }

    /// A comparison to stand in [`When::all`] or [`When::any`].
    pub fn compare(variable: &str, test: &str, other: impl Into<Value>) -> Fields {
        with(
            with(Map::new(), "Variable", json!(variable)),
            test,
            other.into(),
        )
    }
}

fields! {
    /// A flow for each item.
    Each {
        /// Where the items are (JSONPath).
        items_path(path: &str) = "ItemsPath";
        /// Where the items are (JSONata).
        items(expression: Value) = "Items";
        /// What each flow gets.
        selector(template: Value) = "ItemSelector";
        /// How many items are worked at once.
        concurrency(most: u64) = "MaxConcurrency";
        /// How many items may fail before the whole fails.
        tolerate(items: u64) = "ToleratedFailureCount";
        /// How many per cent of the items may fail before the whole fails.
        tolerate_percentage(share: f64) = "ToleratedFailurePercentage";
        /// Where the list of results goes in the data (JSONPath).
        result_path(path: &str) = "ResultPath";
    }
}

impl Each {
    /// What is done with each item.
    pub fn of(flow: &Branch) -> Self {
        Self(with(
            Map::new(),
            "ItemProcessor",
            Value::Object(flow.to_map()),
        ))
    }
}
