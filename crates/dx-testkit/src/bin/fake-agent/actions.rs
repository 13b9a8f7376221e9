//! The table of actions: name, arguments, help text, code.
//!
//! For: everything `fake-agent` can do; to add an action, add one row and one small function.
//! Called by: `main`.
//! Must never: hold state between actions; each stands alone, so any order is allowed.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::sys;

/// One row: how it is written, what it does.
struct Action {
    name: &'static str,
    /// Shape of what follows `name:`; empty when the action takes nothing.
    shape: &'static str,
    help: &'static str,
    run: fn(&str) -> io::Result<()>,
}

/// An action with its argument, ready to run.
pub(crate) struct Step<'a> {
    action: &'static Action,
    argument: &'a str,
}

impl Step<'_> {
    pub(crate) fn run(&self) -> io::Result<()> {
        (self.action.run)(self.argument)
    }
}

/// Width of one line of a flood, newline included.
const FLOOD_LINE: usize = 80;
/// How often `wait-file` looks.
const POLL: Duration = Duration::from_millis(5);

#[rustfmt::skip]
const ACTIONS: &[Action] = &[
    Action { name: "print", shape: "TEXT", help: "print TEXT and a newline on stdout", run: |text| say(&mut io::stdout(), text, "\n") },
    Action { name: "partial-json", shape: "TEXT", help: "print TEXT without a newline on stdout", run: |text| say(&mut io::stdout(), text, "") },
    Action { name: "print-file", shape: "PATH", help: "print the content of PATH on stdout", run: print_file },
    Action { name: "print-env", shape: "NAME[:FROM:TO]", help: "print the value of variable NAME and a newline; with bytes FROM to TO only those", run: print_env },
    Action { name: "stderr-env", shape: "NAME", help: "print the value of variable NAME and a newline on stderr", run: |name| say(&mut io::stderr(), &variable(name)?, "\n") },
    Action { name: "restart-stdout", shape: "", help: "cut what stdout was written to so far, when it is a file", run: |_| OpenOptions::new().write(true).truncate(true).open("/proc/self/fd/1").map(drop) },
    Action { name: "stderr", shape: "TEXT", help: "print TEXT and a newline on stderr", run: |text| say(&mut io::stderr(), text, "\n") },
    Action { name: "close-stdout", shape: "", help: "let go of stdout; a reader of the pipe sees its end", run: |_| close_stdout() },
    Action { name: "flood", shape: "BYTES", help: "print BYTES bytes of 80-column lines on stdout", run: |bytes| flood(number(bytes)?) },
    Action { name: "long-line", shape: "BYTES", help: "print a line of BYTES bytes and its line feed on stdout", run: |bytes| long_line(number(bytes)?) },
    Action { name: "extend-stdout", shape: "BYTES", help: "make the file behind stdout BYTES longer without writing: a hole", run: |bytes| extend_stdout(number(bytes)?) },
    Action { name: "flood-forever", shape: "", help: "print lines on stdout until killed", run: |_| flood(u64::MAX) },
    Action { name: "write", shape: "PATH:TEXT", help: "write TEXT to PATH, folders included", run: write_text },
    Action { name: "touch", shape: "PATH", help: "create PATH, empty", run: |path| put(path, b"") },
    Action { name: "wait-file", shape: "PATH", help: "wait until PATH exists", run: wait_file },
    Action { name: "read-stdin", shape: "PATH", help: "copy stdin to PATH; PATH appears when stdin has ended", run: read_stdin },
    Action { name: "env", shape: "PATH", help: "write the environment to PATH, one NAME=VALUE a line, sorted", run: dump_env },
    Action { name: "argv", shape: "PATH", help: "write the arguments to PATH, one a line, program first", run: dump_argv },
    Action { name: "pid", shape: "PATH", help: "write the own pid to PATH", run: |path| put_whole(path, format!("{}\n", std::process::id()).as_bytes()) },
    Action { name: "append-pid", shape: "PATH", help: "append the own pid and a newline to PATH (O_APPEND): proves how many agents ran", run: append_pid },
    Action { name: "sleep", shape: "SECONDS", help: "sleep; decimals allowed", run: |time| { std::thread::sleep(seconds(time)?); Ok(()) } },
    Action { name: "cpu", shape: "SECONDS", help: "burn CPU and print nothing", run: |time| { burn(seconds(time)?); Ok(()) } },
    Action { name: "ignore-term", shape: "", help: "ignore SIGTERM, here and in later children", run: |_| sys::ignore_term() },
    Action { name: "spawn", shape: "SECONDS", help: "start a child which sleeps; same session, same stdout", run: |time| spawn_child(time, false) },
    Action { name: "spawn-setsid", shape: "SECONDS", help: "start a child in a session of its own which sleeps; same stdout", run: |time| spawn_child(time, true) },
    Action { name: "double-fork", shape: "SECONDS", help: "start a daemon (setsid, parent gone, no stdio) which sleeps", run: |time| { seconds(time)?; daemon(&[format!("sleep:{time}")]) } },
    Action { name: "late-write", shape: "PATH:SECONDS", help: "start a daemon which writes PATH after SECONDS: proves that there is no late write", run: late_write },
    Action { name: "exit", shape: "CODE", help: "exit with CODE, 0 to 255", run: exit },
    Action { name: "kill", shape: "SIGNAL", help: "send signal number SIGNAL to itself", run: kill_self },
    Action { name: "suspend", shape: "SECONDS", help: "stop itself, its parent and the parent of that for SECONDS: a job on a frozen machine", run: suspend },
    Action { name: "without-landlock", shape: "", help: "see a kernel without Landlock from here on, with all that is started", run: |_| sys::without(sys::LANDLOCK) },
    Action { name: "without-mounts", shape: "", help: "see a system in which nobody may mount from here on, with all that is started", run: |_| sys::without(sys::MOUNT) },
    Action { name: "exec", shape: "WORDS", help: "become the command WORDS, one a line", run: |words| Err(Command::new(words.split('\n').next().unwrap_or_default()).args(words.split('\n').skip(1)).exec()) },
    Action { name: DETACH, shape: "ACTIONS", help: "internal: the middle process of a daemon", run: detach },
];

/// The middle process of `daemon`.
const DETACH: &str = "detach";

/// The text of `--help`.
pub(crate) fn help() -> String {
    let mut text = String::from(
        "fake-agent ACTION...: runs the actions in order, then exits 0.\n\
         Exit 64: an argument is wrong (nothing ran). Exit 74: an action failed.\n\n",
    );
    for Action { name, shape, help, .. } in ACTIONS {
        let usage = if shape.is_empty() { (*name).to_owned() } else { format!("{name}:{shape}") };
        let _ = writeln!(text, "  {usage:<26} {help}");
    }
    text
}

/// Finds the action of one argument; the error is a message for people.
pub(crate) fn parse(arg: &str) -> Result<Step<'_>, String> {
    let (name, argument) = arg.split_once(':').map_or((arg, None), |(name, rest)| (name, Some(rest)));
    let Some(action) = ACTIONS.iter().find(|action| action.name == name) else {
        return Err(format!("unknown action '{arg}'"));
    };
    match (action.shape.is_empty(), argument) {
        (true, None) => Ok(Step { action, argument: "" }),
        (false, Some(argument)) => Ok(Step { action, argument }),
        (true, Some(_)) => Err(format!("'{name}' takes no argument")),
        (false, None) => Err(format!("'{name}' needs {name}:{}", action.shape)),
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(|_| invalid(format!("'{text}' is not a whole number")))
}

fn seconds(text: &str) -> io::Result<Duration> {
    let value: f64 = text.parse().map_err(|_| invalid(format!("'{text}' is not a number of seconds")))?;
    Duration::try_from_secs_f64(value).map_err(|error| invalid(format!("'{text}': {error}")))
}

fn say(to: &mut impl Write, text: &str, end: &str) -> io::Result<()> {
    // One write call: what a reader of an O_APPEND log sees is whole.
    to.write_all(format!("{text}{end}").as_bytes())?;
    to.flush()
}

fn variable(name: &str) -> io::Result<String> {
    std::env::var(name).map_err(|error| invalid(format!("'{name}': {error}")))
}

fn print_env(argument: &str) -> io::Result<()> {
    let Some((name, range)) = argument.split_once(':') else {
        return say(&mut io::stdout(), &variable(argument)?, "\n");
    };
    let (from, to) = range.split_once(':').ok_or_else(|| invalid("needs NAME:FROM:TO".into()))?;
    let (from, to) = (number(from)? as usize, number(to)? as usize);
    let value = variable(name)?;
    let part =
        value.get(from..to.min(value.len())).ok_or_else(|| invalid(format!("'{range}' is no part")))?;
    say(&mut io::stdout(), part, "")
}

fn print_file(path: &str) -> io::Result<()> {
    let content = fs::read(path)?;
    let mut out = io::stdout().lock();
    out.write_all(&content)?;
    out.flush()
}

fn close_stdout() -> io::Result<()> {
    // Descriptor 1 stays taken by /dev/null, so that no later file lands on it.
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

fn flood(total: u64) -> io::Result<()> {
    let line = format!("{}\n", "x".repeat(FLOOD_LINE - 1));
    let chunk = line.repeat(1024).into_bytes();
    let mut out = io::stdout().lock();
    let mut left = total;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        out.write_all(&chunk[..part])?;
        left -= part as u64;
    }
    out.flush()
}

fn long_line(total: u64) -> io::Result<()> {
    let mut out = io::stdout().lock();
    io::copy(&mut io::repeat(b'x').take(total), &mut out)?;
    out.write_all(b"\n")?;
    out.flush()
}

fn extend_stdout(more: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open("/proc/self/fd/1")?;
    file.set_len(file.metadata()?.len() + more)
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn put(path: &str, content: &[u8]) -> io::Result<()> {
    make_parent(Path::new(path))?;
    fs::write(path, content)
}

/// Writes beside `path` and renames: whoever sees the file sees all of it.
fn put_whole(path: &str, content: &[u8]) -> io::Result<()> {
    let part = PathBuf::from(format!("{path}.part{}", std::process::id()));
    make_parent(&part)?;
    fs::write(&part, content)?;
    fs::rename(part, path)
}

fn write_text(argument: &str) -> io::Result<()> {
    let (path, text) = argument.split_once(':').ok_or_else(|| invalid("needs PATH:TEXT".into()))?;
    put(path, text.as_bytes())
}

fn wait_file(path: &str) -> io::Result<()> {
    while !fs::exists(path)? {
        std::thread::sleep(POLL);
    }
    Ok(())
}

fn read_stdin(path: &str) -> io::Result<()> {
    let mut content = Vec::new();
    io::stdin().lock().read_to_end(&mut content)?;
    put_whole(path, &content)
}

fn dump_env(path: &str) -> io::Result<()> {
    let mut entries: Vec<String> = std::env::vars_os()
        .map(|(name, value)| format!("{}={}\n", name.to_string_lossy(), value.to_string_lossy()))
        .collect();
    entries.sort();
    put_whole(path, entries.concat().as_bytes())
}

fn dump_argv(path: &str) -> io::Result<()> {
    let arguments: Vec<String> =
        std::env::args_os().map(|arg| format!("{}\n", arg.to_string_lossy())).collect();
    put_whole(path, arguments.concat().as_bytes())
}

fn append_pid(path: &str) -> io::Result<()> {
    make_parent(Path::new(path))?;
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())
}

fn burn(time: Duration) {
    let start = Instant::now();
    let mut value = 0_u64;
    while start.elapsed() < time {
        for _ in 0..10_000 {
            value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

fn spawn_child(time: &str, new_session: bool) -> io::Result<()> {
    seconds(time)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(format!("sleep:{time}")).stdin(Stdio::null());
    if new_session {
        sys::in_new_session(&mut command);
    }
    // Dropped, not waited for: leaving children behind is the point.
    drop(command.spawn()?);
    Ok(())
}

/// Between two actions of one `detach`; never part of an action's text in a test.
const SEPARATOR: &str = "\u{1f}";

/// Starts `fake-agent ACTION...` as a daemon: new session, parent dead, stdio on /dev/null. Returns once it runs.
fn daemon(actions: &[String]) -> io::Result<()> {
    let mut middle = Command::new(std::env::current_exe()?);
    middle.arg(format!("{DETACH}:{}", actions.join(SEPARATOR)));
    middle.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = sys::in_new_session(&mut middle).spawn()?.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("the middle process ended with {status}")))
    }
}

fn detach(actions: &str) -> io::Result<()> {
    drop(Command::new(std::env::current_exe()?).args(actions.split(SEPARATOR)).spawn()?);
    Ok(())
}

/// The one process that goes on is the child which wakes the others.
fn suspend(time: &str) -> io::Result<()> {
    seconds(time)?;
    let parent = std::os::unix::process::parent_id();
    let stat = std::fs::read_to_string(format!("/proc/{parent}/stat"))?;
    let above = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
    let above = above.ok_or_else(|| invalid(format!("no parent of {parent}")))?;
    let script = format!("kill -STOP \"$@\"; sleep {time}; kill -CONT \"$@\"");
    let all = [above.to_owned(), parent.to_string(), std::process::id().to_string()];
    let done = Command::new("sh").args(["-c", &script, "sh"]).args(all).status()?;
    if done.success() { Ok(()) } else { Err(io::Error::other("a process could not be stopped")) }
}

fn late_write(argument: &str) -> io::Result<()> {
    let (path, time) = argument.rsplit_once(':').ok_or_else(|| invalid("needs PATH:SECONDS".into()))?;
    seconds(time)?;
    daemon(&[format!("sleep:{time}"), format!("write:{path}:late")])
}

fn exit(code: &str) -> io::Result<()> {
    let code: u8 = code.parse().map_err(|_| invalid(format!("'{code}' is not an exit code")))?;
    std::process::exit(i32::from(code))
}

fn kill_self(signal: &str) -> io::Result<()> {
    let number: i32 = signal.parse().map_err(|_| invalid(format!("'{signal}' is not a signal number")))?;
    let signal = rustix::process::Signal::from_named_raw(number)
        .ok_or_else(|| invalid(format!("'{number}' is not a signal number")))?;
    rustix::process::kill_process(rustix::process::getpid(), signal)?;
    Ok(())
}
