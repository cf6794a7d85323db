//! How many files and sockets the process may have open, and who gets how many of them.
//!
//! The soft limit of most systems (1024) is for programs that use `select`. A log that cannot open
//! a file is worse off than a client that cannot connect, so files come first.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;

/// For what is neither a segment nor a connection: journal, lock, listeners, health checks.
const OTHERS: u64 = 128;

/// Raises the soft limit to the hard one; returns what may be open then.
fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => maximum.unwrap_or(u64::MAX),
        Err(_refused) => current.unwrap_or(u64::MAX),
    }
}

/// Lowers what the settings ask for to what the system allows, and says so.
pub(crate) fn fit(config: &mut Config) {
    let allowed = raise();
    let half = usize::try_from(allowed / 2).unwrap_or(usize::MAX);
    let segments = config.log.open_segments_max.min(half);
    let taken = OTHERS.saturating_add(segments as u64);
    let rest = usize::try_from(allowed.saturating_sub(taken)).unwrap_or(usize::MAX);
    // Clients of the registry keep few connections each; a quarter is the most they get.
    let of_registry = match config.registry.enabled {
        true => config.registry.connections_max.min(rest / 4).max(1),
        false => 0,
    };
    let rest = rest.saturating_sub(of_registry);
    let connections = config.kafka.connections_max.min(rest).max(1);
    if segments < config.log.open_segments_max || connections < config.kafka.connections_max {
        tracing::warn!(
            allowed,
            segments,
            connections,
            "the limit of open files is low: fewer segments and connections are open at once"
        );
    }
    config.log.open_segments_max = segments;
    config.kafka.connections_max = connections;
    if config.registry.enabled {
        config.registry.connections_max = of_registry;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_shared_out_and_never_exceeded() {
        let mut config = Config::default();
        config.log.open_segments_max = usize::MAX;
        config.kafka.connections_max = usize::MAX;
        config.registry.connections_max = usize::MAX;
        fit(&mut config);
        let allowed = raise();
        let connections = config.kafka.connections_max + config.registry.connections_max;
        let used = config.log.open_segments_max as u64 + connections as u64;
        assert!(used <= allowed, "{used} of {allowed}");
        assert!(config.log.open_segments_max > 0 && config.kafka.connections_max > 0);
        let mut modest = Config::default();
        modest.log.open_segments_max = 1;
        modest.kafka.connections_max = 1;
        modest.registry.connections_max = 1;
        let unchanged = modest.clone();
        fit(&mut modest);
        assert_eq!(modest, unchanged);
    }
}
