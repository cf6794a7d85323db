//! How a relay stands, as the HTTP API and `wharf outbox status` tell it.

use serde::Serialize;
use wharf_message::Timestamp;
use wharf_relay::StatusView;

use super::Running;

/// A relay, as it stands.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RelayView {
    /// Its name in the configuration.
    pub(crate) name: String,
    /// `postgres`, `mysql` or `sqlite`.
    kind: &'static str,
    /// `log` or `poll`.
    mode: &'static str,
    /// What it reads, for people.
    source: String,
    /// Where messages go, without a password.
    target: String,
    /// `connecting`, `running`, `degraded`, `standby` or `stopped`.
    state: &'static str,
    /// Rows made durable since the start of the node.
    rows: u64,
    /// Rows set aside since then.
    set_aside: u64,
    /// How often it connected since then.
    connects: u64,
    /// When the last row that is durable was committed (RFC 3339).
    last_commit: Option<String>,
    /// What is left to do.
    lag: LagView,
    /// The last trouble; kept after it is over.
    trouble: Option<TroubleView>,
    /// Whether nothing was left to do when that was last looked at.
    drained: bool,
    #[serde(skip)]
    pub(crate) status: StatusView,
}

#[derive(Clone, Debug, Serialize)]
struct LagView {
    rows: Option<u64>,
    bytes: Option<u64>,
    seconds: Option<f64>,
    /// What the database keeps of its log for this relay.
    retained_bytes: Option<u64>,
    /// How much more log may be written before the slot is given up.
    safe_bytes: Option<i64>,
    slot: Option<String>,
    slot_status: Option<String>,
    held_by: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct TroubleView {
    at: String,
    code: String,
    what: String,
    fix: Option<String>,
}

impl RelayView {
    pub(super) fn of(name: &str, running: &Running, now: Timestamp) -> Self {
        let status = running.status.view();
        let lag = status.lag.clone();
        let trouble = status.trouble.as_ref().map(|(at, trouble)| TroubleView {
            at: at.to_rfc3339(),
            code: trouble.code.to_string(),
            what: trouble.what.clone(),
            fix: trouble.fix.clone(),
        });
        let (slot, slot_status) = lag.slot.unzip();
        let kind = super::settings::database(&running.configured);
        Self {
            name: name.to_owned(),
            kind: kind.map_or("", crate::config::Database::name),
            mode: running.mode.name(),
            source: running.source.clone(),
            target: running.configured.target.to_string(),
            state: status.state.name(),
            rows: status.rows,
            set_aside: status.set_aside,
            connects: status.connects,
            last_commit: status.last_commit.map(Timestamp::to_rfc3339),
            lag: LagView {
                rows: lag.rows,
                bytes: lag.bytes,
                seconds: status.behind(now).map(|behind| behind.as_secs_f64()),
                retained_bytes: lag.retained_bytes,
                safe_bytes: lag.safe_bytes,
                slot,
                slot_status,
                held_by: lag.held_by,
            },
            trouble,
            drained: status.is_drained(),
            status,
        }
    }
}
