//! `Retry`, `Catch` and `Compensate`.

use serde_json::Value;

use super::super::text::clip;
use super::super::{
    Catcher, Code, Compensation, Jitter, OnFailure, OnUnknown, QueryLanguage, Retrier, Selection,
};
use super::fields::Fields;
use super::{Reader, SECONDS_MAX, nearest};

/// The errors of the language itself.
const ERRORS: &[&str] = &[
    "States.ALL",
    "States.BranchFailed",
    "States.DataLimitExceeded",
    "States.ExceedToleratedFailureThreshold",
    "States.HeartbeatTimeout",
    "States.Http.Socket",
    "States.IntrinsicFailure",
    "States.ItemReaderFailed",
    "States.NoChoiceMatched",
    "States.ParameterPathFailure",
    "States.Permissions",
    "States.QueryEvaluationError",
    "States.ResultPathMatchFailure",
    "States.ResultWriterFailed",
    "States.Runtime",
    "States.TaskFailed",
    "States.Timeout",
];

const ALL: &str = "States.ALL";

/// A year, which is the longest wait between two attempts.
const DELAY_MAX: u64 = 31_622_400;

impl Reader<'_> {
    pub(super) fn retry(&mut self, fields: &mut Fields<'_>) -> Vec<Retrier> {
        let Some(all) = fields.list(self, "Retry") else {
            return Vec::new();
        };
        let at = fields.at("Retry");
        let mut retriers = Vec::with_capacity(all.len());
        for (index, value) in all.iter().enumerate() {
            let last = index + 1 == all.len();
            retriers.extend(self.retrier(value, format!("{at}/{index}"), last));
        }
        retriers
    }

    fn retrier(&mut self, value: &Value, at: String, last: bool) -> Option<Retrier> {
        let mut fields = Fields::of(self, value, at, "a retrier")?;
        let _comment = fields.text(self, "Comment");
        let errors = self.errors_of(&mut fields, "ErrorEquals", "retrier", last);
        let default = Retrier::default();
        let interval = fields.whole(self, "IntervalSeconds", (1, SECONDS_MAX));
        let interval_seconds = interval.unwrap_or(default.interval_seconds);
        let attempts_max = fields
            .whole(self, "MaxAttempts", (0, SECONDS_MAX))
            .unwrap_or(default.attempts_max);
        let delay_max_seconds = fields.whole(self, "MaxDelaySeconds", (1, DELAY_MAX));
        if delay_max_seconds.is_some_and(|most| most <= interval_seconds) {
            let message = format!(
                "the longest wait must be longer than the first, which is {interval_seconds} s; write more, or leave it out"
            );
            self.add(Code::OUT_OF_RANGE, fields.at("MaxDelaySeconds"), message);
        }
        let mut backoff_rate = default.backoff_rate;
        if let Some(value) = fields.get("BackoffRate") {
            match value.as_f64() {
                Some(rate) if (1.0..=1e9).contains(&rate) => backoff_rate = rate,
                Some(rate) => {
                    let message = format!(
                        "`BackoffRate` is {rate}, and waits do not become shorter; write 1.0 or more"
                    );
                    self.add(Code::OUT_OF_RANGE, fields.at("BackoffRate"), message);
                }
                None => {
                    self.wrong_type(&fields.at("BackoffRate"), "BackoffRate", "a number", value);
                }
            }
        }
        let jitters = [("NONE", Jitter::None), ("FULL", Jitter::Full)];
        let jitter = fields
            .word(self, "JitterStrategy", &jitters)
            .unwrap_or_default();
        fields.finish(self, None, "retrier");
        Some(Retrier {
            errors,
            interval_seconds,
            attempts_max,
            backoff_rate,
            delay_max_seconds,
            jitter,
        })
    }

    /// A list of errors, with what holds for `States.ALL`.
    pub(super) fn errors_of(
        &mut self,
        fields: &mut Fields<'_>,
        name: &'static str,
        what: &str,
        last: bool,
    ) -> Vec<String> {
        let why =
            format!("a {what} says which errors it is for; write a list such as [\"States.ALL\"]");
        if fields.need(self, name, &why).is_none() {
            return Vec::new();
        }
        let Some(all) = fields.list(self, name) else {
            return Vec::new();
        };
        let at = fields.at(name);
        if all.is_empty() {
            self.add(
                Code::EMPTY_LIST,
                &at,
                format!("`{name}` needs at least one error; for any, write States.ALL"),
            );
        }
        let mut errors = Vec::with_capacity(all.len());
        for (index, value) in all.iter().enumerate() {
            let Some(error) = value.as_str() else {
                self.wrong_type(&format!("{at}/{index}"), name, "names of errors", value);
                continue;
            };
            if error.starts_with("States.") && !ERRORS.contains(&error) {
                let message = format!(
                    "the language has no error `{}`, so this never matches unless a worker says it{}",
                    clip(error),
                    nearest(error, ERRORS.iter().copied()),
                );
                self.add(Code::UNKNOWN_ERROR_NAME, format!("{at}/{index}"), message);
            }
            errors.push(error.to_owned());
        }
        if errors.iter().any(|error| error == ALL) {
            if all.len() > 1 {
                let message =
                    "States.ALL is any error, so the others beside it say nothing; leave it alone";
                self.add(Code::STATES_ALL_NOT_ALONE, &at, message);
            }
            if !last {
                let message = format!(
                    "States.ALL takes every error, so no {what} after it is looked at; put it last"
                );
                self.add(Code::STATES_ALL_NOT_LAST, fields.here(), message);
            }
        }
        errors
    }

    pub(super) fn catch(
        &mut self,
        fields: &mut Fields<'_>,
        language: QueryLanguage,
    ) -> Vec<Catcher> {
        let Some(all) = fields.list(self, "Catch") else {
            return Vec::new();
        };
        let at = fields.at("Catch");
        let mut catchers = Vec::with_capacity(all.len());
        for (index, value) in all.iter().enumerate() {
            let last = index + 1 == all.len();
            catchers.extend(self.catcher(value, format!("{at}/{index}"), last, language));
        }
        catchers
    }

    fn catcher(
        &mut self,
        value: &Value,
        at: String,
        last: bool,
        language: QueryLanguage,
    ) -> Option<Catcher> {
        let mut fields = Fields::of(self, value, at, "a catcher")?;
        let comment = fields.text(self, "Comment");
        let errors = self.errors_of(&mut fields, "ErrorEquals", "catcher", last);
        let next = fields.need_text(self, "Next", "a catcher says where to go with the error");
        if fields.has("Next") {
            self.target(fields.at("Next"), &next);
        }
        let assign = self.assign_field(&mut fields, language);
        let (result_path, output) = match language {
            QueryLanguage::JsonPath => (self.selection(&mut fields, "ResultPath", true), None),
            QueryLanguage::Jsonata => (Selection::All, self.jsonata_field(&mut fields, "Output")),
        };
        fields.finish(self, Some(language), "catcher");
        Some(Catcher {
            comment,
            errors,
            next,
            result_path,
            output,
            assign,
        })
    }

    /// How the state is undone.
    pub(super) fn compensate(
        &mut self,
        fields: &mut Fields<'_>,
        language: QueryLanguage,
    ) -> Option<Compensation> {
        let value = fields.get("Compensate")?;
        self.compensates = true;
        let at = fields.at("Compensate");
        let mut fields = Fields::of(self, value, at, "`Compensate`")?;
        let _comment = fields.text(self, "Comment");
        let resource = self.resource(&mut fields);
        let name = Self::payload_name(language);
        let arguments = fields.get(name).cloned();
        if let Some(arguments) = &arguments {
            self.payload(language, arguments, &fields.at(name));
        }
        let retry = if fields.has("Retry") {
            let retry = self.retry(&mut fields);
            if retry.iter().all(|retrier| retrier.attempts_max == 0) {
                let message = "the undo is tried once, and a saga whose undo fails is parked until a person comes; let it be tried again";
                self.add(Code::UNDO_NEVER_TRIED_AGAIN, fields.at("Retry"), message);
            }
            retry
        } else {
            let _none = fields.get("Retry");
            let message = "the undo says not when it is tried again, so it is tried 20 times more, a minute apart at most, and then parked; write Retry to decide it";
            self.add(Code::UNDO_WITHOUT_RETRY, fields.here(), message);
            Compensation::default_retry()
        };
        let timeout_seconds = fields.given_whole(
            self,
            language,
            ("TimeoutSeconds", "TimeoutSecondsPath"),
            (1, SECONDS_MAX),
        );
        if timeout_seconds.is_none() {
            let message = "the undo may wait for its worker for ever, and the saga with it; write TimeoutSeconds";
            self.add(Code::UNDO_WITHOUT_TIMEOUT, fields.here(), message);
        }
        let unknown = [
            ("Compensate", OnUnknown::Compensate),
            ("Skip", OnUnknown::Skip),
            ("Park", OnUnknown::Park),
        ];
        let on_unknown = fields.word(self, "OnUnknown", &unknown).unwrap_or_default();
        let failure = [("Park", OnFailure::Park), ("Continue", OnFailure::Continue)];
        let on_failure = fields.word(self, "OnFailure", &failure).unwrap_or_default();
        fields.finish(self, Some(language), "Compensate");
        Some(Compensation {
            resource,
            arguments,
            retry,
            timeout_seconds,
            on_unknown,
            on_failure,
        })
    }
}
