//! One OpenCode server: six jobs on it beside six headless ones.
//!
//! For: the goal of half the memory and time for six jobs; `dispatch` has its server from here.
//! Called by: `bench::run`; needs the real agent (`DX_TEST_AGENTS_DIR`), behind which a scripted model answers.
//! Must never: count the model, or a job that did not succeed.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Size;
use super::http::Bare;
use super::measure::{Samples, memory, ms, timed, until};
use super::report::Report;
use super::world::{State, World};
use crate::Failure;
use crate::agents::AGENTS_DIR;
use crate::workspace::{cargo, output};

/// Jobs at once.
const JOBS: usize = 6;
/// Of what six headless jobs take.
const SHARE: f64 = 0.5;
/// What each job's model does.
const TASK: &str = "Do it [[mock:bash:sleep 1,write:hello.txt:hi,text:DONE]]\n";
/// Between two looks at the memory of all.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A scripted model in a process of its own; it ends with the value.
pub(super) struct Model {
    process: Child,
    words: Option<ChildStdin>,
    config: String,
}

pub(super) fn run(world: &World, _size: Size, report: &mut Report) -> Result<(), Failure> {
    let Some(model) = prepared(world, "server", report)? else { return Ok(()) };
    let bench = Bench::new(world, "server", &model);
    // Headless first, while no server takes memory. The first job of a home sets it up.
    bench.crowd("warm", 1, Place::One, &["--lane", "run"])?;
    let headless = [Place::One, Place::Own].map(|place| bench.crowd("run", JOBS, place, &["--lane", "run"]));
    let url = format!("http://{}", bench.serve()?);
    for (place, headless) in [Place::One, Place::Own].into_iter().zip(headless) {
        let headless = headless?;
        report_crowd(report, &format!("headless, {}", place.words()), &headless, None);
        for lane in ["server", "attach"] {
            let options = ["--lane", lane, "--server", &url];
            bench.crowd(&format!("warm-{lane}"), 1, place, &options)?;
            let crowd = bench.crowd(lane, JOBS, place, &options)?;
            let what = format!("lane `{lane}`, {}", place.words());
            report_crowd(report, &what, &crowd, Some(&headless).filter(|_| lane == "server"));
        }
    }
    Ok(())
}

/// Where jobs work.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// All in one folder, which a server sets up once.
    One,
    /// Each in a new worktree.
    Own,
}

impl Place {
    fn words(self) -> &'static str {
        match self {
            Self::One => "in one folder",
            Self::Own => "a new worktree each",
        }
    }
}

/// The real agent in its place, a task for it, and its model; `None` without an agent, which is noted.
pub(super) fn prepared(world: &World, section: &str, report: &mut Report) -> Result<Option<Model>, Failure> {
    let Some(opencode) = opencode() else {
        report.note(format!("{section}: not measured: {AGENTS_DIR} names no folder with opencode"));
        return Ok(None);
    };
    let link = world.path("bin/opencode");
    let _stand_in = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(&opencode, &link).map_err(|error| format!("{}: {error}", link.display()))?;
    world.write("home/task", TASK.as_bytes())?;
    Model::start().map(Some)
}

fn opencode() -> Option<PathBuf> {
    let file = Path::new(&std::env::var_os(AGENTS_DIR)?).join("opencode");
    file.canonicalize().ok()
}

/// What several jobs at once took.
struct Crowd {
    wall: Samples,
    peak: Samples,
}

fn report_crowd(report: &mut Report, what: &str, crowd: &Crowd, than: Option<&Crowd>) {
    let half = |samples: fn(&Crowd) -> &Samples| than.map(|than| samples(than).p50() * SHARE);
    let wall = half(|crowd| &crowd.wall);
    report.plain(&format!("{JOBS} jobs at once, {what}"), "ms", &crowd.wall, wall);
    let peak = half(|crowd| &crowd.peak);
    report.plain("  most PSS of everything but the model", "MiB", &crowd.peak, peak);
}

/// What a section with a real server works with.
pub(super) struct Bench<'w> {
    pub(super) world: &'w World,
    pub(super) state: State<'w>,
    config: &'w str,
}

impl<'w> Bench<'w> {
    pub(super) fn new(world: &'w World, state: &str, model: &'w Model) -> Self {
        Self { world, state: world.state(state), config: &model.config }
    }

    /// With what makes the real agent work offline.
    pub(super) fn offline(&self, mut command: Command) -> Command {
        command.env("OPENCODE_CONFIG_CONTENT", self.config);
        for name in ["MODELS_FETCH", "AUTOUPDATE", "LSP_DOWNLOAD"] {
            command.env(format!("OPENCODE_DISABLE_{name}"), "1");
        }
        command
    }

    fn start(&self, id: &str, place: Place, more: &[&str]) -> Command {
        let mut command =
            self.state.runner(&["start", "--provider", "opencode", "--beads", id, "--worktree"]);
        if let Place::Own = place {
            command.args(["auto", "--repo"]);
        }
        command.arg(self.world.path("repo")).arg("--prompt-file").arg(self.world.path("home/task"));
        command.args(["--model", "mock/m1", "--allow-model-override"]).args(more);
        self.offline(command)
    }

    /// Jobs that are started together; each has to succeed.
    fn crowd(&self, stem: &str, count: usize, place: Place, more: &[&str]) -> Result<Crowd, Failure> {
        let (done, begun) = (AtomicBool::new(false), Instant::now());
        let job = |n: usize| -> Result<(), Failure> {
            let id = format!("{stem}-{place:?}-{n}").to_lowercase();
            timed(&mut self.start(&id, place, more), &[0])?;
            timed(&mut self.state.runner(&["wait", "--beads", &id]), &[0]).map(drop)
        };
        let (ended, peak) = std::thread::scope(|scope| {
            let watched = scope.spawn(|| {
                let mut peak = 0.0_f64;
                while !done.load(Ordering::Relaxed) {
                    peak = peak.max(self.memory_of_all());
                    std::thread::sleep(LOOK_EVERY);
                }
                peak
            });
            let jobs: Vec<_> = (0..count).map(|n| scope.spawn(move || job(n))).collect();
            let ended: Vec<_> =
                jobs.into_iter().map(|job| job.join().unwrap_or(Err("a thread failed".into()))).collect();
            let took = ms(begun.elapsed());
            done.store(true, Ordering::Relaxed);
            (
                ended.into_iter().collect::<Result<Vec<()>, Failure>>().map(|_| took),
                watched.join().unwrap_or_default(),
            )
        });
        let mut crowd = Crowd { wall: Samples::default(), peak: Samples::default() };
        crowd.wall.push(ended?);
        crowd.peak.push(peak);
        Ok(crowd)
    }

    /// In MiB; what has ended in the middle of the look counts nothing.
    fn memory_of_all(&self) -> f64 {
        self.world
            .processes()
            .iter()
            .filter_map(|pid| memory(&[*pid]).ok())
            .map(|memory| memory.pss)
            .sum::<f64>()
            / 1024.0
    }

    /// A server of the agent's own; its address. The sweep ends it.
    pub(super) fn serve(&self) -> Result<SocketAddr, Failure> {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.map_err(|error| error.to_string())?;
        let port = address.port().to_string();
        let command = self.world.command(self.world.path("bin/opencode"));
        let mut command = self.offline(command);
        command
            .args(["serve", "--hostname", "127.0.0.1", "--port", &port])
            .current_dir(self.world.path("repo"));
        command.spawn().map_err(|error| format!("opencode serve: {error}"))?;
        until("an answer of the server", || {
            std::thread::sleep(LOOK_EVERY);
            // A call that comes while it begins is never answered.
            Bare::connect_for(address, Duration::from_secs(2)).ok()?.call("GET", "/global/health", "").ok()
        })?;
        Ok(address)
    }
}

impl Model {
    fn start() -> Result<Self, Failure> {
        let args =
            ["build", "-q", "-p", "dx-scripted-model", "--example", "serve", "--message-format", "json"];
        let said = output(cargo().args(args))?;
        let program = said.split('"').find(|word| word.ends_with("/examples/serve"));
        let program = program.ok_or("cargo build named no example `serve`")?;
        let mut command = Command::new(program);
        // Without the benchmark's folder, so that it is not counted.
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().map_err(|error| format!("{program}: {error}"))?;
        let words = process.stdin.take();
        let mut lines = BufReader::new(process.stdout.take().ok_or("no output")?).lines();
        let config = lines.by_ref().nth(1).and_then(Result::ok).ok_or("the model told no configuration")?;
        // Questions have no tools, which elsewhere is the mark of housekeeping.
        let config = config.replace("/v1\"", "/plain/v1\"");
        // Read to the end, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { process, words, config })
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        drop(self.words.take());
        let _ended = self.process.wait();
    }
}
