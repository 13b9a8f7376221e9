//! Memory and idle CPU of the monitor and launcher of a job.
//!
//! For: the budgets of 2 MiB for a single job, 160 KiB for one of fifty, 0.05 % of a core.
//! Called by: `bench::run`.
//! Must never: count the agent.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::Size;
use super::measure::{Memory, Samples, memory, ms, on_cpu_ms, timed, until};
use super::report::Report;
use super::status::number_field;
use super::world::{Job, Processes, State, World};
use crate::Failure;

const SINGLE_KIB: f64 = 2048.0;
const OF_FIFTY_KIB: f64 = 160.0;
const IDLE_PERCENT: f64 = 0.05;
/// After a start the last of the work of starting is still going on.
const SETTLE: Duration = Duration::from_secs(3);

/// Stands in for OpenCode: lists a model, or takes its prompt and prints the prepared lines.
const AGENT: &str = "#!/bin/sh
case \"$1\" in
    models) echo bench/model ;;
    run) cat >/dev/null; cat \"$HOME/lines\"; exec sleep 1800 ;;
esac
";

pub(super) fn run(world: &World, size: Size, report: &mut Report) -> Result<(), Failure> {
    world.write_script("bin/opencode", AGENT)?;
    world.write("home/prompt", b"go\n")?;
    let lines = lines(size.log_bytes);
    world.write("home/lines", lines.as_bytes())?;
    let state = world.state("memory");

    state.start_sleepers("one", 1)?;
    std::thread::sleep(SETTLE);
    let jobs = [state.processes(&Job::exec("one-0"))?];
    report_memory(report, "exec, the only job", &jobs, Some(SINGLE_KIB))?;
    world.sweep()?;

    let state = world.state("memory-log");
    let megabytes = size.log_bytes >> 20;
    let (job, took) = parse(&state, world, 0, lines.len())?;
    let processes = state.processes(&job)?;
    let mut samples = Samples::default();
    samples.push(took);
    report.plain(&format!("start to all {megabytes} MiB parsed"), "ms", &samples, None);
    let mut samples = Samples::default();
    samples.push(on_cpu_ms(&[processes.monitor])?);
    report.plain(&format!("CPU of the monitor for {megabytes} MiB"), "ms", &samples, None);
    std::thread::sleep(SETTLE);
    let what = format!("opencode, the only job, {megabytes} MiB parsed");
    report_memory(report, &what, &[processes], Some(SINGLE_KIB))?;
    world.sweep()?;

    let state = world.state("memory-fifty");
    let mut parsers = Vec::new();
    for n in 0..size.parsers {
        parsers.push(state.processes(&parse(&state, world, n + 1, lines.len())?.0)?);
    }
    let quiet = 50 - size.parsers;
    state.start_sleepers("fifty", quiet)?;
    std::thread::sleep(SETTLE);
    let mut sleepers = Vec::new();
    for n in 0..quiet {
        sleepers.push(state.processes(&Job::exec(format!("fifty-{n}")))?);
    }
    report_memory(report, "exec, one of 50", &sleepers, Some(OF_FIFTY_KIB))?;
    let what = format!("opencode, one of 50, {megabytes} MiB parsed");
    report_memory(report, &what, &parsers, Some(OF_FIFTY_KIB))?;
    idle(report, size, "exec", &sleepers)?;
    idle(report, size, "opencode", &parsers)?;
    Ok(())
}

fn report_memory(
    report: &mut Report,
    what: &str,
    jobs: &[Processes],
    budget: Option<f64>,
) -> Result<(), Failure> {
    let (mut pss, mut rss, mut dirty) = (Samples::default(), Samples::default(), Samples::default());
    let (mut monitor, mut launcher) = (Samples::default(), Samples::default());
    for job in jobs {
        let Memory { pss: p, rss: r, private_dirty: d } = memory(&job.ours())?;
        pss.push(p);
        rss.push(r);
        dirty.push(d);
        monitor.push(memory(&[job.monitor])?.pss);
        launcher.push(memory(&[job.launcher])?.pss);
    }
    report.plain(&format!("PSS monitor + launcher, {what}"), "KiB", &pss, budget);
    report.plain("  of it the monitor", "KiB", &monitor, None);
    report.plain("  of it the launcher", "KiB", &launcher, None);
    report.plain("  RSS of both", "KiB", &rss, None);
    report.plain("  private dirty of both", "KiB", &dirty, None);
    Ok(())
}

/// CPU time over a while in which nothing happens.
fn idle(report: &mut Report, size: Size, what: &str, jobs: &[Processes]) -> Result<(), Failure> {
    let mut before = Vec::new();
    for job in jobs {
        before.push((on_cpu_ms(&job.ours())?, Instant::now()));
    }
    std::thread::sleep(Duration::from_secs(size.idle_sec));
    let mut percent = Samples::default();
    for (job, (cpu, at)) in jobs.iter().zip(before) {
        percent.push((on_cpu_ms(&job.ours())? - cpu) / ms(at.elapsed()) * 100.0);
    }
    let what = format!("idle over {} s, {what}, one of 50", size.idle_sec);
    report.plain(&what, "% core", &percent, Some(IDLE_PERCENT));
    Ok(())
}

/// Starts a job whose agent prints the lines; returns when the monitor has parsed them, with the time since the start.
fn parse(state: &State<'_>, world: &World, n: usize, bytes: usize) -> Result<(Job, f64), Failure> {
    let job = Job { provider: "opencode", id: format!("parse-{n}") };
    let begun = Instant::now();
    let mut command = state.runner(&["start", "--provider", "opencode", "--beads", &job.id, "--worktree"]);
    command.arg(world.path("repo")).arg("--prompt-file").arg(world.path("home/prompt"));
    timed(command.args(["--model", "bench/model", "--allow-model-override"]), &[0])?;
    let (at, ()) = until("the parse of the log", || {
        std::thread::sleep(Duration::from_millis(5));
        let parsed = number_field(&state.view(&job, "obs"), "parsed_bytes").ok()?.parse::<usize>().ok()?;
        (parsed >= bytes).then_some(())
    })?;
    Ok((job, ms(at - begun)))
}

/// What `opencode run --format json` prints, again and again: steps with a tool call and a text, as recorded.
fn lines(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 8192);
    let words = "The tests pass and the change is in place. ".repeat(12);
    let mut n = 0u64;
    while text.len() < bytes {
        let at = 1_800_000_000_000 + n * 100;
        let part = format!(r#""id":"prt_{n}","messageID":"msg_{n}","sessionID":"ses_1""#);
        let _fits = write!(
            text,
            concat!(
                r#"{{"type":"step_start","timestamp":{at},"sessionID":"ses_1","part":{{{part},"type":"step-start"}}}}"#,
                "\n",
                r#"{{"type":"tool_use","timestamp":{at},"sessionID":"ses_1","part":{{"type":"tool","tool":"bash","#,
                r#""callID":"call_{n}","state":{{"status":"completed","input":{{"command":"cargo test {n}"}},"#,
                r#""output":"{words}{words}{words}","metadata":{{"exit":0}},"title":"tests","#,
                r#""time":{{"start":{at},"end":{at}}}}},{part}}}}}"#,
                "\n",
                r#"{{"type":"text","timestamp":{at},"sessionID":"ses_1","part":{{{part},"type":"text","text":"{words}"}}}}"#,
                "\n",
                r#"{{"type":"step_finish","timestamp":{at},"sessionID":"ses_1","part":{{{part},"reason":"tool-calls","#,
                r#""type":"step-finish","tokens":{{"total":110,"input":100,"output":10,"reasoning":0,"#,
                r#""cache":{{"write":0,"read":0}}}},"cost":0.0001}}}}"#,
                "\n",
            ),
            at = at,
            part = part,
            n = n,
            words = words
        );
        n += 1;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::world::LIFE;
    use super::{AGENT, lines};

    #[test]
    fn the_stand_in_prints_whole_lines_and_lives_as_long_as_the_others() {
        let text = lines(10_000);
        assert!(text.len() >= 10_000 && text.ends_with("}\n"));
        assert_eq!(text.lines().count() % 4, 0);
        assert!(text.lines().all(|l| l.matches('{').count() == l.matches('}').count()));
        assert!(AGENT.contains(LIFE));
    }
}
