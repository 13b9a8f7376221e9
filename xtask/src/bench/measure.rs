//! Samples of a figure, the bare `fork+exec` beside them, and what `/proc` tells of a process.
//!
//! For: every section.
//! Called by: the sections.
//! Must never: leave the baseline out of a loop that times processes; the machine's load changes within a run.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;

/// Nothing that is waited for takes longer than this, unless something is broken.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_micros(100);

/// Values of one figure, in its unit.
#[derive(Debug, Default, Clone)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The value below which `percent` of the samples lie: the nearest rank. 0 when there is none.
    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }

    pub(super) fn p50(&self) -> f64 {
        self.percentile(50)
    }
}

pub(super) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A figure and the baseline measured between its samples.
#[derive(Debug, Default)]
pub(super) struct Pair {
    pub(super) figure: Samples,
    pub(super) bare: Samples,
}

/// Measures `times` times, each followed by one bare process.
pub(super) fn interleaved(
    times: usize,
    mut act: impl FnMut(usize) -> Result<f64, Failure>,
) -> Result<Pair, Failure> {
    let mut pair = Pair::default();
    for turn in 0..times {
        pair.figure.push(act(turn)?);
        pair.bare.push(bare()?);
    }
    Ok(pair)
}

/// One `fork+exec+wait` of a program that does nothing.
pub(super) fn bare() -> Result<f64, Failure> {
    timed(&mut quiet(Command::new("/bin/true")), &[0])
}

/// The command with nothing on its three standard streams.
pub(super) fn quiet(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Milliseconds from before the start of the process to after its end, which must be one of these codes.
pub(super) fn timed(command: &mut Command, codes: &[i32]) -> Result<f64, Failure> {
    let begun = Instant::now();
    let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
    let took = ms(begun.elapsed());
    if status.code().is_some_and(|code| codes.contains(&code)) {
        Ok(took)
    } else {
        Err(format!("{command:?}: {status}"))
    }
}

/// Looks again and again until there is an answer; tells when it was seen.
pub(super) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<(Instant, T), Failure> {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return Ok((Instant::now(), seen));
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("{what} did not happen within {} s", PATIENCE.as_secs()));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Milliseconds of one fdatasync after an append, and of one fsync of the folder after a new name in it.
pub(super) fn syncs(folder: &Path, turn: usize) -> Result<(f64, f64), Failure> {
    let path = folder.join(format!("sync-{turn}"));
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = File::create(&path).map_err(failed)?;
    file.write_all(&[b'x'; 2048]).map_err(failed)?;
    let begun = Instant::now();
    file.sync_data().map_err(failed)?;
    let data = ms(begun.elapsed());
    fs::hard_link(&path, folder.join(format!("sync-{turn}-again"))).map_err(failed)?;
    let begun = Instant::now();
    File::open(folder).and_then(|dir| dir.sync_all()).map_err(failed)?;
    let dir = ms(begun.elapsed());
    for name in [format!("sync-{turn}"), format!("sync-{turn}-again")] {
        let _removed = fs::remove_file(folder.join(name));
    }
    Ok((data, dir))
}

/// Memory of one or several processes, in KiB.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Memory {
    pub(super) pss: f64,
    pub(super) rss: f64,
    pub(super) private_dirty: f64,
}

/// The sum over these processes, from `/proc/<pid>/smaps_rollup`.
pub(super) fn memory(pids: &[u32]) -> Result<Memory, Failure> {
    let mut sum = Memory::default();
    for pid in pids {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let value = |name: &str| text.lines().find_map(|line| number(line.strip_prefix(name)?));
        sum.pss += value("Pss:").ok_or_else(|| format!("{path} has no Pss"))?;
        sum.rss += value("Rss:").unwrap_or_default();
        sum.private_dirty += value("Private_Dirty:").unwrap_or_default();
    }
    Ok(sum)
}

fn number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

/// Milliseconds on a processor since the start, summed over these processes; from `/proc/<pid>/schedstat`.
pub(super) fn on_cpu_ms(pids: &[u32]) -> Result<f64, Failure> {
    let mut sum = 0.0;
    for pid in pids {
        let path = format!("/proc/{pid}/schedstat");
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        sum += number(&text).ok_or_else(|| format!("{path} has no number"))? / 1e6;
    }
    Ok(sum)
}

/// The parent of a process.
pub(super) fn parent(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Samples, parent};

    #[test]
    fn percentiles_are_nearest_ranks() {
        let samples = Samples((1..=10).rev().map(f64::from).collect());
        assert!((samples.p50() - 5.0).abs() < f64::EPSILON);
        assert!((samples.percentile(90) - 9.0).abs() < f64::EPSILON);
        assert!(Samples::default().p50().abs() < f64::EPSILON);
    }

    #[test]
    fn a_parent_is_found() {
        assert_eq!(parent(std::process::id()), Some(std::os::unix::process::parent_id()));
    }
}
