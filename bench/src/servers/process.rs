//! What the operating system says of processes: memory and processor time.

use std::fs;

use anyhow::{Context, Result};

/// Clock ticks in a second, as /proc counts (it is the same on every Linux).
const TICKS_PER_SECOND: f64 = 100.0;

/// What some processes use.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Resident memory in bytes.
    pub(crate) memory: u64,
    /// Processor time since they started, in seconds.
    pub(crate) cpu: f64,
}

impl Usage {
    /// All processes of a group.
    pub(crate) fn of_group(group: u32) -> Result<Self> {
        let mut usage = Self::default();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A process may end while the list is read.
            let Some(stat) = stat(id).filter(|stat| stat.group == group) else {
                continue;
            };
            usage.cpu += stat.cpu;
            usage.memory += resident(id).unwrap_or(0);
        }
        Ok(usage)
    }
}

/// The processor time that this process has used, in seconds.
pub(crate) fn own_cpu() -> Result<f64> {
    let stat = stat(std::process::id()).context("/proc/self/stat cannot be read")?;
    Ok(stat.cpu)
}

struct Stat {
    group: u32,
    cpu: f64,
}

fn stat(id: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

/// The name in brackets may hold anything, so fields are counted from its end: the third is the
/// process group, the twelfth and thirteenth are the time in user and kernel mode.
fn parse(stat: &str) -> Option<Stat> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some(Stat {
        group: fields.get(2)?.parse().ok()?,
        cpu: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
    })
}

fn resident(id: u32) -> Option<u64> {
    memory(id, "VmRSS:")
}

/// The most resident memory that a process has had since it started, in bytes.
pub(crate) fn peak_memory(id: u32) -> Result<u64> {
    memory(id, "VmHWM:").with_context(|| format!("the process {id} is gone"))
}

/// What the system says of a process's memory, in bytes.
fn memory(id: u32, what: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_move_the_fields() {
        let stat = parse("7 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1");
        let stat = stat.expect("it has all fields");
        assert_eq!(stat.group, 42);
        assert!((stat.cpu - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn this_process_uses_memory_and_no_more_than_its_peak() {
        let now = resident(std::process::id()).expect("this process is there");
        let peak = peak_memory(std::process::id()).expect("this process is there");
        assert!(1 << 20 < now && now <= peak, "{now} {peak}");
    }
}
