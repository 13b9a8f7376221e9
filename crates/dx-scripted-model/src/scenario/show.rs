//! A scenario as text.
//!
//! What for: URLs, prompts, records. Called through `Display`. Must never print what `parse` reads differently.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::{RateLimit, Scenario, Step};

impl Display for Scenario {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut rest = self.steps();
        let mut comma = "";
        while let Some(step) = rest.first() {
            let run = rest.iter().take_while(|other| *other == step).count();
            f.write_str(comma)?;
            if run > 1 {
                write!(f, "{run}*")?;
            }
            write!(f, "{step}")?;
            rest = rest.get(run..).unwrap_or_default();
            comma = ",";
        }
        Ok(())
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "text:{}", escape(text)),
            Self::Write { path, content } => write!(f, "write:{}:{}", escape(path), escape(content)),
            Self::Read(path) => write!(f, "read:{}", escape(path)),
            Self::Bash(command) => write!(f, "bash:{}", escape(command)),
            Self::Tool { name, arguments } => write!(f, "tool:{}:{}", escape(name), escape(arguments)),
            // Texts and lists of them are always JSON.
            Self::Tools(calls) => {
                write!(f, "tools:{}", escape(&serde_json::to_string(calls).unwrap_or_default()))
            }
            Self::Json => f.write_str("json"),
            Self::Empty => f.write_str("empty"),
            Self::Status(status) => write!(f, "{status}"),
            Self::RateLimit(RateLimit::After(seconds)) => write!(f, "429:after={seconds}"),
            Self::RateLimit(RateLimit::Quota) => f.write_str("429:quota"),
            Self::RateLimit(RateLimit::Plan(RateLimit::PLAN_SEC)) => f.write_str("429:plan"),
            Self::RateLimit(RateLimit::Plan(seconds)) => write!(f, "429:plan={seconds}"),
            Self::RateLimit(RateLimit::Capacity) => f.write_str("429:capacity"),
            Self::Hang => f.write_str("hang"),
            Self::HangStream => f.write_str("hang-stream"),
            Self::Drop => f.write_str("drop"),
            Self::Garbage => f.write_str("garbage"),
            Self::Slow { pause, text: None } => write!(f, "slow:{}", seconds(*pause)),
            Self::Slow { pause, text: Some(text) } => write!(f, "slow:{}:{}", seconds(*pause), escape(text)),
            Self::Sleep(duration) => write!(f, "sleep:{}", seconds(*duration)),
            Self::Latency { least, mean } => write!(f, "sleep:{}+{}", seconds(*least), seconds(*mean)),
            Self::Chance { per_mille, step } => write!(f, "chance:{}:{step}", f64::from(*per_mille) / 1e3),
            Self::Seed(seed) => write!(f, "seed:{seed}"),
        }
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let last = text.chars().count().saturating_sub(1);
    for (at, c) in text.chars().enumerate() {
        match c {
            ',' | ':' | '\\' | '{' | '}' | '[' | ']' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            ' ' if at == 0 || at == last => out.push_str("\\s"),
            other => out.push(other),
        }
    }
    out
}
