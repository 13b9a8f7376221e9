//! What the scripted model does, step by step.
//!
//! What for: a scenario is the whole behaviour of the model in one value, written as text (`2*429,write:a:b,text:DONE`)
//! or built by a program. Called by tests, the `demo` command and the server. Must never lose information between
//! `Display` and `FromStr`: the text form travels in URLs and prompts.
//!
//! Steps, separated by commas, one per model call; the last repeats; `N*` before a step repeats it N times:
//!
//! | step | the model |
//! |---|---|
//! | `text:WORDS` | answers with text (`text` alone: `SCRIPTED-OK`) |
//! | `write:PATH:CONTENT` | calls the client's file writing tool (its shell tool if there is none) |
//! | `read:PATH`, `bash:CMD` | calls the client's reading or shell tool |
//! | `tool:NAME:{json}` | calls any tool by name |
//! | `tools:[["NAME","{json}"],…]` | calls several tools at once |
//! | `json` | answers with a value made from the schema that was asked for |
//! | `empty` | answers with nothing |
//! | `400` `401` `403` `404` `500` `502` `503` `529` | fails with that HTTP status |
//! | `429`, `429:after=SECS`, `429:quota`, `429:plan`, `429:plan=SECS`, `429:capacity` | refuses for the rate (`429` alone: retry after 1 s; `plan` alone: for an hour) |
//! | `hang`, `hang-stream` | never answers; or starts to answer and falls silent |
//! | `drop` | closes the connection in the middle of the answer |
//! | `garbage` | answers 200 with a page of HTML |
//! | `slow:SECS[:WORDS]` | streams one word each SECS seconds |
//! | `sleep:SECS` | waits before the step that follows it |
//! | `sleep:LEAST+MEAN` | the same, LEAST and on the average MEAN more, by an exponential distribution |
//! | `chance:SHARE:STEP` | with this probability, plays STEP and nothing else from here on; otherwise goes on |
//! | `seed:N` | begins the row of chances; 0 without it |
//!
//! Chance is drawn once for each client, known by the directory it works in; the same seed makes the same row of them.
//!
//! In contents a backslash makes `,` `:` `{` `}` `[` `]` `\` plain; `\n` `\t` `\r` are the control characters and
//! `\s` is a space (for the ends, which are trimmed). Commas inside `{}` and `[]` do not separate steps.

mod draw;
mod parse;
mod show;

use std::time::Duration;

/// The text the model answers with when a scenario does not say.
pub(crate) const DEFAULT_TEXT: &str = "SCRIPTED-OK";

/// One thing the model does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Answers with text.
    Text(String),
    /// Calls the client's file writing tool.
    Write {
        /// As given; made absolute with the client's working directory if its tool wants that.
        path: String,
        /// The whole content of the file.
        content: String,
    },
    /// Calls the client's file reading tool.
    Read(String),
    /// Calls the client's shell tool.
    Bash(String),
    /// Calls a tool by name.
    Tool {
        /// The tool's name.
        name: String,
        /// Its arguments, as JSON text.
        arguments: String,
    },
    /// Calls several tools at once: the name and the arguments of each.
    Tools(Vec<(String, String)>),
    /// Answers with a value made from the schema in the request.
    Json,
    /// Answers with nothing.
    Empty,
    /// Fails with an HTTP status (any but 429).
    Status(u16),
    /// Fails with status 429.
    RateLimit(RateLimit),
    /// Accepts the request and never answers.
    Hang,
    /// Sends headers and the first words, then nothing more.
    HangStream,
    /// Closes the connection after the first words.
    Drop,
    /// Status 200 with HTML.
    Garbage,
    /// Streams a word at a time.
    Slow {
        /// The pause between two words.
        pause: Duration,
        /// The words; twenty made-up ones if none are given.
        text: Option<String>,
    },
    /// Waits before the next step of the list, in the same model call.
    Sleep(Duration),
    /// Waits before the next step of the list, for a time that is drawn for each client.
    Latency {
        /// The shortest wait.
        least: Duration,
        /// What is waited beyond that on the average; exponentially distributed.
        mean: Duration,
    },
    /// Plays a step instead of all that follow, with a probability.
    Chance {
        /// The probability, in thousandths.
        per_mille: u16,
        /// What is played; not a step of chance itself.
        step: Box<Step>,
    },
    /// Begins the row of chances.
    Seed(u64),
}

/// The kinds of status 429 that clients tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateLimit {
    /// With a retry-after header of this many seconds.
    After(u64),
    /// The account's quota is used up.
    Quota,
    /// The plan is used up for so many seconds, and says so; who asks again shall not wait in between.
    Plan(u64),
    /// The model has no capacity left.
    Capacity,
}

impl RateLimit {
    /// For how long a plan is used up when nothing is said of it.
    pub(crate) const PLAN_SEC: u64 = 3_600;
}

impl Step {
    /// How many tool results the client answers this step with, which is how such steps are counted.
    pub(crate) fn tool_calls(&self) -> usize {
        match self {
            Self::Write { .. } | Self::Read(_) | Self::Bash(_) | Self::Tool { .. } => 1,
            Self::Tools(calls) => calls.len(),
            _ => 0,
        }
    }
}

/// Why a text is not a scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// There is no step in it.
    #[error("the scenario has no step")]
    Empty,
    /// The step's first word is not known.
    #[error("unknown step `{0}`")]
    UnknownStep(String),
    /// The step is known but what follows it is not understood.
    #[error("step `{step}`: {problem}")]
    BadStep {
        /// The step as written.
        step: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A bracket is opened and never closed.
    #[error("a bracket is not closed; write a backslash before it if it is meant literally")]
    OpenBracket,
    /// Repetitions blow the list up.
    #[error("the scenario has more than {max} steps", max = Scenario::MAX_STEPS)]
    TooLong,
}

/// The steps of the model, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    steps: Vec<Step>,
}

impl Scenario {
    /// The most steps a scenario may have, repetitions counted.
    pub const MAX_STEPS: usize = 10_000;

    /// A scenario of one step.
    pub fn step(step: Step) -> Self {
        Self { steps: vec![step.rounded()] }
    }

    /// The model answers with this text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::step(Step::Text(text.into()))
    }

    /// The model writes a file.
    pub fn write(path: impl Into<String>, content: impl Into<String>) -> Self {
        Self::step(Step::Write { path: path.into(), content: content.into() })
    }

    /// The model runs a shell command.
    pub fn bash(command: impl Into<String>) -> Self {
        Self::step(Step::Bash(command.into()))
    }

    /// Every call fails with this HTTP status.
    pub fn status(status: u16) -> Self {
        Self::step(Step::of_status(status))
    }

    /// Every call hangs.
    pub fn hang() -> Self {
        Self::step(Step::Hang)
    }

    /// Adds a step.
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step.rounded());
        self
    }

    /// Adds a step several times (at least once).
    pub fn then_times(mut self, times: usize, step: Step) -> Self {
        let step = step.rounded();
        let times = times.clamp(1, Self::MAX_STEPS);
        self.steps.extend(std::iter::repeat_n(step, times));
        self
    }

    /// Adds a text answer.
    pub fn then_text(self, text: impl Into<String>) -> Self {
        self.then(Step::Text(text.into()))
    }

    /// Adds a file write.
    pub fn then_write(self, path: impl Into<String>, content: impl Into<String>) -> Self {
        self.then(Step::Write { path: path.into(), content: content.into() })
    }

    /// Adds a shell command.
    pub fn then_bash(self, command: impl Into<String>) -> Self {
        self.then(Step::Bash(command.into()))
    }

    /// Adds a failure with this HTTP status.
    pub fn then_status(self, status: u16) -> Self {
        self.then(Step::of_status(status))
    }

    /// The steps in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl Step {
    fn of_status(status: u16) -> Self {
        if status == 429 { Self::RateLimit(RateLimit::After(1)) } else { Self::Status(status) }
    }

    /// Durations in whole milliseconds, which is what the text form carries.
    fn rounded(self) -> Self {
        let whole = |duration: Duration| {
            Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)).min(parse::LONGEST)
        };
        match self {
            Self::Slow { pause, text } => Self::Slow { pause: whole(pause), text },
            Self::Sleep(duration) => Self::Sleep(whole(duration)),
            Self::Latency { least, mean } => Self::Latency { least: whole(least), mean: whole(mean) },
            other => other,
        }
    }
}
