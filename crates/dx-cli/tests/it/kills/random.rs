//! SIGKILL of one of ours at a random instant of a short job, many times.
//!
//! For: `kills` (100 times) and the soak test of the same name. Must never: run unseeded; a failure names its seed.

use super::world::{CODE, Job, Ours, World, programs, uuid_of};
use dx_testkit::send_signal;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Jobs at a time.
const WORKERS: usize = 4;
/// Jobs per world: a state directory that grows is part of the test.
const PER_WORLD: usize = 100;

/// xorshift64*.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % end.max(1)
    }
}

/// A number out of the caller's environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// A line for the one who reads the counts.
#[allow(clippy::print_stdout, reason = "numbers of a run are what it is for")]
fn say(line: &str) {
    println!("{line}");
}

/// Runs so many jobs and prints what was killed and who witnessed the end.
pub(crate) fn kill_at_random_instants(runs: u64, seed: u64) {
    let next = AtomicU64::new(0);
    let counts = Mutex::new(BTreeMap::<String, usize>::new());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let mut world = World::new();
                let mut span = span_of_a_job(&world);
                let mut in_world = 0;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= runs {
                        return;
                    }
                    if in_world == PER_WORLD {
                        world = World::new();
                        span = span_of_a_job(&world);
                        in_world = 0;
                    }
                    in_world += 1;
                    let word = one(&world, number, seed.wrapping_add(number), span);
                    *counts.lock().unwrap().entry(word).or_default() += 1;
                }
            });
        }
    });
    say(&format!("{runs} jobs in {:.1} s, seed {seed}", began.elapsed().as_secs_f64()));
    for (word, count) in counts.into_inner().unwrap() {
        say(&format!("{count:6}  {word}"));
    }
}

fn job<'w>(world: &'w World, id: &str) -> Job<'w> {
    world.job(id).doing(&["print:one", "sleep:0.02", "print:two", &format!("exit:{CODE}")])
}

/// How long a job lasts here and now, from the command until none of ours is left: the shortest of a few.
fn span_of_a_job(world: &World) -> Duration {
    let spans = (0..5).map(|number| {
        let job = job(world, &format!("calm-{number}"));
        let began = Instant::now();
        let child = job.start_command(&[]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let state = world.env.state_dir().display().to_string();
        let output = child.wait_with_output().unwrap();
        while !programs(&state).is_empty() {}
        assert!(output.status.success());
        began.elapsed()
    });
    spans.min().unwrap()
}

/// One job, one kill. The answer says what was killed and who saw the end.
fn one(world: &World, number: u64, seed: u64, span: Duration) -> String {
    let mut random = Random::new(seed);
    let job = job(world, &format!("kill-{number}"));
    let mut command = job.start_command(&[]);
    let began = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let after = Duration::from_micros(random.below(span.as_micros() as u64));
    let victim = kill_one(world, began, after, span * 2, &mut random);
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let history = || format!("job {number}, seed {seed}, killed {victim:?} {after:?} after the start");
    assert!(
        output.status.success(),
        "{}: start failed: {told}{}",
        history(),
        String::from_utf8_lossy(&output.stderr)
    );
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let uuid = uuid_of(&told);
        let outcome = job.assert_told(&uuid, CODE);
        assert_eq!(job.agents().len(), 1, "agents {:?}", job.agents());
        outcome
    }));
    let outcome = outcome.unwrap_or_else(|failure| {
        say(&history());
        std::panic::resume_unwind(failure)
    });
    let name = victim.map_or("nothing".to_owned(), |victim| victim.name);
    format!("killed {name}, seen by {}", outcome["witness"].as_str().unwrap_or("nobody"))
}

/// Kills one of ours once the time has come; `None` when there is none any more.
fn kill_one(
    world: &World,
    began: Instant,
    after: Duration,
    limit: Duration,
    random: &mut Random,
) -> Option<Ours> {
    // The instant itself is what is random here; nothing is waited for.
    std::thread::sleep(after.saturating_sub(began.elapsed()));
    let state = world.env.state_dir().display().to_string();
    while began.elapsed() < limit {
        let mut found: Vec<Ours> = programs(&state);
        if !found.is_empty() {
            let victim = found.swap_remove(random.below(found.len() as u64) as usize);
            return send_signal(victim.pid, super::world::KILL).then_some(victim);
        }
    }
    None
}
