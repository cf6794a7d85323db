//! The table of error codes: the one list that pages, `wharf explain` and problem documents share.
//!
//! A number is never reused. Every code has a page `docs/errors/WHARF-nnnn.md`; a test compares.
//! 1xxx node and configuration, 2xxx log and disk, 3xxx broker, 4xxx command line,
//! 5xxx library (51xx inbox, 520x policies, 521x claim checks), 6xxx schemas and their registry, 7xxx sagas.

use std::fmt;

/// One error a person may meet, with a page of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u16);

macro_rules! codes {
    ($($name:ident = $number:literal, $title:literal;)*) => {
        impl Code {
            $(#[doc = $title] pub const $name: Self = Self($number);)*
            /// Every code there is, in order.
            pub const ALL: &'static [Self] = &[$(Self($number)),*];

            /// What happened, in one line.
            pub fn title(self) -> &'static str {
                match self.0 {
                    $($number => $title,)*
                    _ => "unknown code",
                }
            }
        }
    };
}

codes! {
    PORT_IN_USE = 1001, "The address to listen on is already in use";
    DATA_DIRECTORY_LOCKED = 1002, "The data directory is in use by another process";
    INVALID_CONFIGURATION = 1003, "The configuration has an unknown key or an invalid value";
    OPEN_LISTENER_REFUSED = 1004, "A listener beyond loopback without authentication was refused";
    DATA_DIRECTORY_FOREIGN = 1005, "The data directory holds something that is not Wharf's";
    DISK_FULL = 2001, "The disk is full; writes are refused, reads go on";
    CORRUPT_RANGE = 2002, "A range of the log is damaged and is refused; the rest is served";
    LOG_POISONED = 2003, "A sync failed; the node stopped acknowledging";
    SNAPSHOT_UNREADABLE = 2004, "The snapshot cannot be read";
    DISK_FORMAT_UNSUPPORTED = 2005, "The data directory was written in a format this version cannot read";
    JOURNAL_CUT_SHORT = 2006, "A journal file has lost its end";
    UNKNOWN_TOPIC = 3001, "The topic does not exist";
    MESSAGE_TOO_LARGE = 3002, "The message is larger than the topic allows";
    INVALID_TOPIC_CONFIGURATION = 3003, "A topic setting is unknown or has an invalid value";
    TOPIC_EXISTS = 3004, "The topic already exists";
    GROUP_NOT_EMPTY = 3005, "The group still has members";
    BROKER_UNREACHABLE = 4001, "The broker could not be reached";
    INGEST_INPUT = 4002, "A line of the file to ingest cannot be read";
    INBOX_NOT_INSTALLED = 5101, "The tables of the inbox are not there";
    INBOX_UNAVAILABLE = 5102, "The database of the inbox is not available";
    INBOX_PAYLOAD_DIFFERS = 5103, "Two messages with different payloads have the same id";
    INBOX_WINDOW_TOO_SHORT = 5104, "The inbox forgets messages that can still come again";
    INBOX_OUTPUTS_DAMAGED = 5105, "The outputs stored in an inbox row cannot be read";
    BREAKER_OPEN = 5200, "The circuit breaker is open";
    BULKHEAD_FULL = 5201, "As many calls as the bulkhead allows are under way";
    RATE_LIMITED = 5202, "The rate limit is used up";
    CALL_TIMED_OUT = 5203, "The call took too long and was given up";
    INVALID_POLICY = 5204, "A setting of a policy is out of its range";
    CLAIM_LOST = 5210, "The payload that a claim check stands for is not in its store";
    CLAIM_DAMAGED = 5211, "The payload that a claim check stands for is damaged";
    CLAIM_INVALID = 5212, "A claim check cannot be read, or points where it must not";
    CLAIM_STORE_UNKNOWN = 5213, "The store that a claim check names is not configured";
    CLAIM_TOO_LARGE = 5214, "The payload is larger than claim checks may carry";
    CLAIM_STORE_UNAVAILABLE = 5215, "The object storage cannot be reached or refused";
    SWEEP_REFUSED = 5216, "The sweep deleted nothing, because it could not read everything that may refer";
    OUTBOX_NOT_INSTALLED = 5301, "The outbox table is not there";
    OUTBOX_TABLE_WRONG = 5302, "The outbox table lacks a column, or a column has another type";
    OUTBOX_SOURCE_UNAVAILABLE = 5303, "The database of an outbox cannot be reached";
    OUTBOX_ACCESS_REFUSED = 5304, "The database of an outbox refuses the relay's user";
    OUTBOX_LOG_OFF = 5305, "The database writes no log that a relay can read";
    OUTBOX_TAKEN = 5306, "Another relay serves this outbox";
    OUTBOX_SLOT_LOST = 5307, "The replication slot of an outbox is gone or was given up";
    OUTBOX_OTHER_DATABASE = 5308, "The database is not the one that the relay read before";
    OUTBOX_ROW_SET_ASIDE = 5309, "A row of the outbox was set aside, since no message can be made of it";
    OUTBOX_TARGET_UNAVAILABLE = 5310, "The target of an outbox takes no messages";
    OUTBOX_LOG_RETAINED = 5311, "The database keeps much of its log for an outbox";
    OUTBOX_HELD_BACK = 5312, "An open transaction holds the outbox back";
    REGISTRY_UNAVAILABLE = 6001, "The schema registry cannot use its topic";
    SCHEMA_CONTRACT_BROKEN = 6010, "A record breaks the contract of its topic";
    SCHEMA_INVALID = 6011, "No schema can be made of an event";
    SCHEMA_REFUSED = 6012, "The schema registry refused what a service asked";
    SCHEMA_REGISTRY_UNREACHABLE = 6013, "The schema registry does not answer a service";
    SCHEMA_UNREADABLE = 6014, "An event cannot be written or read with its schema";
    SCHEMA_RETAINED = 6015, "A service's code cannot read what is retained in its topics";
    SAGA_UNAVAILABLE = 7001, "The orchestrator of sagas cannot use its topics";
    SAGA_UNKNOWN = 7002, "There is no such saga";
    SAGA_KEY_TAKEN = 7003, "The key belongs to a saga that was started with another input";
    SAGA_DEFINITION_INVALID = 7004, "The definition of a saga is refused";
    SAGA_DEFINITION_UNKNOWN = 7005, "The definition of a saga is not deployed";
    SAGA_RESOURCE_UNMAPPED = 7006, "A definition names resources that lead nowhere";
    SAGA_DEFINITION_IN_USE = 7007, "Sagas that have not ended need the definition";
    SAGA_ACTION_REFUSED = 7008, "The action does not go with where the saga stands";
    SAGA_PAYLOAD_TOO_LARGE = 7009, "A payload of a saga is larger than allowed";
    SAGA_BUSY = 7010, "More waits for a saga, or for all of them, than may";
    SAGA_TOKEN_UNKNOWN = 7011, "Nobody waits for this answer of a worker";
    SAGA_PARKED = 7012, "A saga is parked and waits for a person";
    SAGA_REQUEST_INVALID = 7013, "A request about sagas cannot be understood";
    CHOREOGRAPHY_CONTRACT_INVALID = 7090, "A contract of a choreography cannot be used";
    CHOREOGRAPHY_UNAVAILABLE = 7091, "Choreographies cannot use their topics";
}

impl Code {
    /// The code with this number, if there is one.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.0 == number)
    }

    /// Reads `WHARF-2001`, `wharf-2001` or `2001`.
    pub fn parse(text: &str) -> Option<Self> {
        let upper = text.trim().to_ascii_uppercase();
        let digits = upper.strip_prefix("WHARF-").unwrap_or(&upper);
        digits.parse().ok().and_then(Self::from_number)
    }

    /// The number alone.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "WHARF-{:04}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_in_every_form_people_type() {
        for text in ["WHARF-2001", "wharf-2001", "2001", " WHARF-2001 "] {
            assert_eq!(Code::parse(text), Some(Code::DISK_FULL), "{text}");
        }
        assert_eq!(Code::parse("WHARF-9999"), None);
    }
}
