//! Steps in order: heading, time, summary, closing line.
//!
//! For: commands made of several steps of which one may fail without ending the rest.
//! Called by: `test`.
//! Must never: lose a failure, or count a step that did not run as passed.

use std::time::{Duration, Instant};

use crate::Failure;

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It ran and succeeded.
    Passed,
    /// It ran and succeeded, and this has to be known.
    Remarked(String),
    /// It ran and failed, for this reason.
    Failed(String),
    /// It did not run, for this reason.
    Skipped(String),
}

impl From<Result<(), Failure>> for Outcome {
    fn from(result: Result<(), Failure>) -> Self {
        result.map_or_else(Self::Failed, |()| Self::Passed)
    }
}

/// What has run so far.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<(&'static str, Duration, Outcome)>,
    /// Why the steps to come are skipped.
    stopped: Option<String>,
}

impl Steps {
    /// Runs one step under its heading, or skips it when an earlier one stopped the rest. Returns whether it passed.
    pub(crate) fn step(&mut self, name: &'static str, run: impl FnOnce() -> Outcome) -> bool {
        println!("\n== {name}");
        let start = Instant::now();
        let outcome = match &self.stopped {
            Some(reason) => Outcome::Skipped(reason.clone()),
            None => run(),
        };
        let time = start.elapsed();
        match &outcome {
            Outcome::Passed => println!("== {name}: passed, {:.1} s", time.as_secs_f64()),
            Outcome::Remarked(remark) => println!("== {name}: passed, {:.1} s: {remark}", time.as_secs_f64()),
            Outcome::Failed(reason) => println!("== {name}: FAILED, {:.1} s: {reason}", time.as_secs_f64()),
            Outcome::Skipped(reason) => println!("== {name}: skipped: {reason}"),
        }
        let passed = matches!(outcome, Outcome::Passed | Outcome::Remarked(_));
        self.done.push((name, time, outcome));
        passed
    }

    /// Skips every later step.
    pub(crate) fn stop(&mut self, reason: impl Into<String>) {
        self.stopped = Some(reason.into());
    }

    /// `N passed, M failed, K skipped`.
    fn closing_line(&self) -> String {
        let count =
            |wanted: fn(&Outcome) -> bool| self.done.iter().filter(|(_, _, outcome)| wanted(outcome)).count();
        format!(
            "{} passed, {} failed, {} skipped",
            count(|outcome| matches!(outcome, Outcome::Passed | Outcome::Remarked(_))),
            count(|outcome| matches!(outcome, Outcome::Failed(_))),
            count(|outcome| matches!(outcome, Outcome::Skipped(_))),
        )
    }

    /// Prints the summary, the closing line last; the error lists the failed steps.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        println!("\n== summary");
        for (name, time, outcome) in &self.done {
            let (word, reason) = match outcome {
                Outcome::Passed => ("passed", ""),
                Outcome::Remarked(remark) => ("passed", remark.as_str()),
                Outcome::Failed(reason) => ("FAILED", reason.lines().next().unwrap_or_default()),
                Outcome::Skipped(reason) => ("skipped", reason.as_str()),
            };
            println!("{:<8} {:>7.1} s  {name:<10} {reason}", word, time.as_secs_f64());
        }
        println!("\n{}", self.closing_line());
        let failed = self.done.iter().filter(|(_, _, outcome)| matches!(outcome, Outcome::Failed(_)));
        let failed: Vec<&str> = failed.map(|(name, _, _)| *name).collect();
        if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Steps};

    #[test]
    fn counts_each_kind_and_skips_after_a_stop() {
        let mut steps = Steps::default();
        assert!(steps.step("a", || Outcome::Passed));
        assert!(!steps.step("b", || Outcome::Failed("no".into())));
        assert!(!steps.step("c", || Outcome::Skipped("--fast".into())));
        steps.stop("b failed");
        assert!(!steps.step("d", || unreachable!("a stopped step must not run")));
        assert_eq!(steps.closing_line(), "1 passed, 1 failed, 2 skipped");
        assert_eq!(steps.finish(), Err("failed: b".to_owned()));
    }

    #[test]
    fn skipping_is_no_failure() {
        let mut steps = Steps::default();
        steps.step("a", || Outcome::Skipped("--fast".into()));
        assert_eq!(steps.finish(), Ok(()));
    }
}
