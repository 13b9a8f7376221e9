//! A scenario from text.
//!
//! What for: scenarios in URLs, prompts and on command lines. Called through `FromStr`. Must never guess: a step it
//! does not know is an error, so that a typing error in a test cannot pass as a different scenario.

use std::str::FromStr;
use std::time::Duration;

use super::{DEFAULT_TEXT, RateLimit, Scenario, ScenarioError, Step};

/// The longest pause a scenario may ask for.
pub(super) const LONGEST: Duration = Duration::from_hours(24);

const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

impl FromStr for Scenario {
    type Err = ScenarioError;

    fn from_str(text: &str) -> Result<Self, ScenarioError> {
        let mut steps = Vec::new();
        for raw in split(text)? {
            let raw = raw.trim_matches(BLANKS);
            if raw.is_empty() {
                continue;
            }
            let (times, rest) = repetition(raw)?;
            let step = step(rest)?;
            if times > Self::MAX_STEPS - steps.len() {
                return Err(ScenarioError::TooLong);
            }
            steps.extend(std::iter::repeat_n(step, times));
        }
        if steps.is_empty() { Err(ScenarioError::Empty) } else { Ok(Self { steps }) }
    }
}

/// The raw steps: at commas that are neither escaped nor in brackets.
fn split(text: &str) -> Result<Vec<&str>, ScenarioError> {
    let mut out = Vec::new();
    let (mut depth, mut start, mut escaped) = (0_usize, 0, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
            continue;
        }
        match c {
            '\\' => escaped = true,
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                out.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err(ScenarioError::OpenBracket);
    }
    out.push(&text[start..]);
    Ok(out)
}

fn bad(step: &str, problem: &'static str) -> ScenarioError {
    ScenarioError::BadStep { step: step.to_owned(), problem }
}

fn repetition(raw: &str) -> Result<(usize, &str), ScenarioError> {
    let Some((count, rest)) = raw.split_once('*') else { return Ok((1, raw)) };
    if count.is_empty() || !count.bytes().all(|b| b.is_ascii_digit()) {
        return Ok((1, raw));
    }
    match count.parse() {
        Ok(0) => Err(bad(raw, "cannot happen zero times")),
        Ok(times) => Ok((times, rest.trim_start_matches(BLANKS))),
        Err(_) => Err(ScenarioError::TooLong),
    }
}

fn step(raw: &str) -> Result<Step, ScenarioError> {
    let (kind, argument) = match raw.split_once(':') {
        Some((kind, argument)) => (kind, Some(argument)),
        None => (raw, None),
    };
    let plain =
        |step: Step| if argument.is_none() { Ok(step) } else { Err(bad(raw, "takes nothing after it")) };
    match kind {
        "text" => Ok(Step::Text(argument.map_or_else(|| DEFAULT_TEXT.to_owned(), unescape))),
        "write" => Ok(match argument {
            None => Step::Write {
                path: "scripted.txt".to_owned(),
                content: "written by the scripted model\n".to_owned(),
            },
            Some(argument) => {
                let (path, content) = split_colon(argument);
                Step::Write { path: unescape(path), content: unescape(content.unwrap_or_default()) }
            }
        }),
        "read" => needed(raw, argument).map(|path| Step::Read(unescape(path))),
        "bash" => needed(raw, argument).map(|command| Step::Bash(unescape(command))),
        "tool" => {
            let (name, arguments) = split_colon(needed(raw, argument)?);
            Ok(Step::Tool { name: unescape(name), arguments: unescape(arguments.unwrap_or("{}")) })
        }
        "tools" => {
            let list: Vec<(String, String)> = serde_json::from_str(&unescape(needed(raw, argument)?))
                .map_err(|_| bad(raw, "needs a JSON list of [name, arguments]"))?;
            if list.is_empty() { Err(bad(raw, "names no tool")) } else { Ok(Step::Tools(list)) }
        }
        "json" => plain(Step::Json),
        "empty" => plain(Step::Empty),
        "hang" => plain(Step::Hang),
        "hang-stream" => plain(Step::HangStream),
        "drop" => plain(Step::Drop),
        "garbage" => plain(Step::Garbage),
        "429" => rate_limit(raw, argument).map(Step::RateLimit),
        "slow" => {
            let (pause, text) = split_colon(argument.unwrap_or("1"));
            Ok(Step::Slow { pause: seconds(raw, pause)?, text: text.map(unescape) })
        }
        "sleep" => {
            let value = needed(raw, argument)?;
            match value.split_once('+') {
                None => seconds(raw, value).map(Step::Sleep),
                Some((least, mean)) => {
                    Ok(Step::Latency { least: seconds(raw, least)?, mean: seconds(raw, mean)? })
                }
            }
        }
        "chance" => chance(raw, needed(raw, argument)?),
        "seed" => {
            let seed = needed(raw, argument)?.parse();
            seed.map(Step::Seed).map_err(|_| bad(raw, "needs a whole number"))
        }
        // Any error status there is, so that what a program can build can also be read back.
        _ => match kind.parse::<u16>() {
            Ok(status @ 400..=599) if kind.len() == 3 => plain(Step::Status(status)),
            _ => Err(ScenarioError::UnknownStep(raw.to_owned())),
        },
    }
}

fn chance(raw: &str, argument: &str) -> Result<Step, ScenarioError> {
    let (share, rest) = split_colon(argument);
    let share = share.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    let share = share.ok_or_else(|| bad(raw, "needs a share from 0 to 1"))?;
    match step(rest.ok_or_else(|| bad(raw, "needs a step after its share"))?)? {
        Step::Chance { .. } | Step::Seed(_) | Step::Latency { .. } | Step::Sleep(_) => {
            Err(bad(raw, "plays a step that answers"))
        }
        step => Ok(Step::Chance { per_mille: (share * 1_000.0).round() as u16, step: Box::new(step) }),
    }
}

fn needed<'a>(raw: &str, argument: Option<&'a str>) -> Result<&'a str, ScenarioError> {
    argument.ok_or_else(|| bad(raw, "needs something after a colon"))
}

fn rate_limit(raw: &str, argument: Option<&str>) -> Result<RateLimit, ScenarioError> {
    match argument {
        None => Ok(RateLimit::After(1)),
        Some("plan") => Ok(RateLimit::Plan(RateLimit::PLAN_SEC)),
        Some("quota") => Ok(RateLimit::Quota),
        Some("capacity") => Ok(RateLimit::Capacity),
        Some(other) => other
            .split_once('=')
            .and_then(|(word, seconds)| match (word, seconds.parse().ok()?) {
                ("after", seconds) => Some(RateLimit::After(seconds)),
                ("plan", seconds) => Some(RateLimit::Plan(seconds)),
                _ => None,
            })
            .ok_or_else(|| bad(raw, "knows quota, plan, capacity, plan=SECONDS and after=SECONDS")),
    }
}

fn seconds(raw: &str, value: &str) -> Result<Duration, ScenarioError> {
    let duration = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match duration {
        Some(duration) if duration <= LONGEST => {
            // Whole milliseconds, rounded: what the text form can carry back and forth.
            let millis = (duration.as_micros() + 500) / 1000;
            Ok(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
        }
        _ => Err(bad(raw, "needs a number of seconds, at most a day")),
    }
}

/// At the first colon that is not escaped.
fn split_colon(text: &str) -> (&str, Option<&str>) {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ':' => return (&text[..at], Some(&text[at + 1..])),
            _ => {}
        }
    }
    (text, None)
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('s') => out.push(' '),
            Some(c @ (',' | ':' | '\\' | '{' | '}' | '[' | ']')) => out.push(c),
            // Not an escape: both characters are meant.
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Scenario {
        text.parse().unwrap()
    }

    #[test]
    fn every_step_round_trips() {
        let all = "text:a,text,text:,write:a:b:c,write,read:x,bash:ls -l \\, x,tool:t:{\"a\":1,\"b\":[2,3]},json,empty,\
                   400,401,403,404,429,429:quota,429:plan,429:plan=7,429:capacity,429:after=7,500,503,hang,hang-stream,drop,garbage,slow,\
                   slow:0.25,slow:0.1:one two,sleep:1.5,3*429,2*text:x,seed:7,sleep:0.4+0.6,chance:0.25:text:a b";
        let scenario = parse(all);
        assert_eq!(parse(&scenario.to_string()), scenario);
        assert_eq!(scenario.steps().len(), 38);
    }

    #[test]
    fn awkward_contents_round_trip() {
        let nasty = " a,b:c\\n\n\t{[}] ]] \\";
        let scenario =
            Scenario::write(nasty, nasty).then_text(nasty).then_bash(nasty).then_text("").then_text(" ");
        let shown = scenario.to_string();
        assert_eq!(parse(&shown), scenario);
        assert!(!shown.contains("]]"), "must fit into a prompt directive");
    }

    #[test]
    fn content_keeps_its_colons_and_braces_keep_their_commas() {
        assert_eq!(
            parse("write:a.json:{\"x\": 1, \"y\": 2},text:DONE").steps(),
            [
                Step::Write { path: "a.json".into(), content: "{\"x\": 1, \"y\": 2}".into() },
                Step::Text("DONE".into())
            ]
        );
    }

    #[test]
    fn builders_make_what_parses() {
        let built = Scenario::status(429)
            .then_status(429)
            .then_write("a", "b")
            .then(Step::Sleep(Duration::from_micros(1_500_900)));
        assert_eq!(built.to_string(), "2*429:after=1,write:a:b,sleep:1.5");
        assert_eq!(parse("2*429,write:a:b,sleep:1.5"), built);
        assert_eq!(Scenario::text("x").then_times(2, Step::Drop).to_string(), "text:x,2*drop");
    }

    #[test]
    fn mistakes_are_errors() {
        for wrong in [
            "",
            " , ",
            "wrte:a:b",
            "0*429",
            "429:soon",
            "200",
            "600",
            "hang:1",
            "read",
            "sleep:-1",
            "sleep:x",
            "slow:1e9",
            "sleep:1+",
            "seed:x",
            "chance:2:500",
            "chance:0.5",
            "chance:0.5:sleep:1",
        ] {
            assert!(wrong.parse::<Scenario>().is_err(), "{wrong:?} was taken");
        }
        assert_eq!("text:[".parse::<Scenario>(), Err(ScenarioError::OpenBracket));
        assert_eq!("99999999*429".parse::<Scenario>(), Err(ScenarioError::TooLong));
    }
}
