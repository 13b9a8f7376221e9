//! Which step a model call gets.
//!
//! What for: clients retry, run in parallel and start anew, and the scenario must still come out in order. Called by
//! `route` once per model call. Must never be asked about side calls: it counts what it is asked.
//!
//! Two counts decide. Steps that call a tool are counted by the tool results since the last prompt, which the request
//! itself carries: retries cannot disturb it. Steps that leave no tool result behind (faults, texts) are counted by
//! requests at that place of the conversation. A conversation is known by its scenario, first prompt and directory,
//! so the same job started again on the same server goes on where it was: `2*429,text` fails twice in all.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::scenario::{DEFAULT_TEXT, Scenario, Step};

/// What to do in one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    /// How long to wait first.
    pub(crate) delay: Duration,
    /// The step; never `Sleep`.
    pub(crate) step: Step,
}

/// The request counts of every conversation so far, and what was drawn for those with chance in them.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    seen: HashMap<(u64, usize), usize>,
    /// By scenario and client.
    drawn: HashMap<u64, Scenario>,
    /// Clients of each random scenario, by its text.
    clients: HashMap<String, u64>,
}

impl Known {
    /// A client is known by its directory, or its prompt where none is known: some that got no answer ask again in other
    /// words, and would get another draw.
    fn drawn(&mut self, scenario: &Scenario, conversation: &[&str]) -> Scenario {
        if !scenario.is_random() {
            return scenario.clone();
        }
        let text = scenario.to_string();
        let client = conversation.iter().rev().find(|part| !part.is_empty());
        let mut hasher = DefaultHasher::new();
        (&text, client).hash(&mut hasher);
        let Self { drawn, clients, .. } = self;
        let draw = || {
            let number = clients.entry(text).or_default();
            *number += 1;
            scenario.draw(*number - 1)
        };
        drawn.entry(hasher.finish()).or_insert_with(draw).clone()
    }
}

impl Progress {
    /// The turn for a call after `tool_results`, counting it.
    pub(crate) fn next(&self, scenario: &Scenario, conversation: &[&str], tool_results: usize) -> Turn {
        let mut hasher = DefaultHasher::new();
        (scenario.to_string(), conversation).hash(&mut hasher);
        let hash = hasher.finish();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut groups = groups(&known.drawn(scenario, conversation));
        let place = place(&groups, tool_results);
        let count = known.seen.entry((hash, place)).or_default();
        let at = *count;
        *count = count.saturating_add(1);
        drop(known);
        let group = groups.get_mut(place).map(std::mem::take).unwrap_or_default();
        let last = group.len().saturating_sub(1);
        group
            .into_iter()
            .nth(at.min(last))
            .unwrap_or_else(|| Turn { delay: Duration::ZERO, step: Step::Text(DEFAULT_TEXT.to_owned()) })
    }
}

/// The group that comes after so many tool results.
fn place(groups: &[Vec<Turn>], tool_results: usize) -> usize {
    let mut left = tool_results;
    let answered = groups.iter().take_while(|group| {
        let calls = group.last().map_or(0, |turn| turn.step.tool_calls());
        let is_answered = calls > 0 && calls <= left;
        left = left.saturating_sub(calls);
        is_answered
    });
    answered.count().min(groups.len().saturating_sub(1))
}

/// The turns cut after each step that calls a tool; pauses are joined to the step that follows.
fn groups(scenario: &Scenario) -> Vec<Vec<Turn>> {
    let mut groups = Vec::new();
    let mut group = Vec::new();
    let mut delay = Duration::ZERO;
    for step in scenario.steps() {
        if let Step::Sleep(more) = step {
            delay = delay.saturating_add(*more);
            continue;
        }
        group.push(Turn { delay: std::mem::take(&mut delay), step: step.clone() });
        if step.tool_calls() > 0 {
            groups.push(std::mem::take(&mut group));
        }
    }
    if delay > Duration::ZERO {
        group.push(Turn { delay, step: Step::Text(DEFAULT_TEXT.to_owned()) });
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(scenario: &str, tool_results: &[usize]) -> String {
        let progress = Progress::default();
        let scenario = scenario.parse().unwrap();
        let steps: Vec<_> =
            tool_results.iter().map(|n| progress.next(&scenario, &["prompt"], *n).step.to_string()).collect();
        steps.join(" ")
    }

    #[test]
    fn faults_by_requests_and_tools_by_results() {
        assert_eq!(
            play("2*500,write:a:b,text:DONE", &[0, 0, 0, 1, 1]),
            "500 500 write:a:b text:DONE text:DONE"
        );
        assert_eq!(
            play("write:a:b,503,bash:ls,text:E", &[0, 1, 1, 2, 2]),
            "write:a:b 503 bash:ls text:E text:E"
        );
    }

    #[test]
    fn several_calls_at_once_are_one_step() {
        let all = r#"tools:[["a"\,"\{\}"]\,["b"\,"\{\}"]],read:x,text:E"#;
        let tools = r#"tools:\[\["a"\,"\{\}"\]\,\["b"\,"\{\}"\]\]"#;
        assert_eq!(play(all, &[0, 2, 3]), format!("{tools} read:x text:E"));
    }

    #[test]
    fn the_last_step_repeats() {
        assert_eq!(play("401", &[0, 0, 0]), "401 401 401");
        assert_eq!(play("write:a:b", &[0, 1, 2]), "write:a:b write:a:b write:a:b");
        assert_eq!(play("text:A,text:B", &[0, 0, 0]), "text:A text:B text:B");
    }

    #[test]
    fn conversations_are_apart() {
        let progress = Progress::default();
        let scenario = "500,text:A".parse().unwrap();
        for prompt in ["one", "two"] {
            assert_eq!(progress.next(&scenario, &[prompt], 0).step, Step::Status(500));
        }
        assert_eq!(progress.next(&scenario, &["one"], 0).step, Step::Text("A".into()));
    }

    #[test]
    fn chance_is_drawn_once_for_each_client() {
        let progress = Progress::default();
        let scenario: Scenario = "seed:3,sleep:0+5,chance:0.5:500,text:A".parse().unwrap();
        for (number, prompt) in ["one", "two", "three", "four"].into_iter().enumerate() {
            let expected = groups(&scenario.draw(number as u64));
            for _ in 0..3 {
                let turn = progress.next(&scenario, &[prompt], 0);
                assert_eq!(turn, expected[0][0], "{prompt}");
            }
        }
    }

    #[test]
    fn who_asks_again_in_other_words_gets_the_same_draw() {
        let progress = Progress::default();
        let scenario: Scenario = "sleep:0+5,text:A".parse().unwrap();
        let next = |prompt, folder| progress.next(&scenario, &[prompt, folder], 0).delay;
        let first = next("one", "/a");
        assert_ne!(next("one", "/b"), first);
        assert_eq!(next("again", "/a"), first);
    }

    #[test]
    fn a_pause_belongs_to_the_step_after_it() {
        let progress = Progress::default();
        let turn = progress.next(&"sleep:2,text:A".parse().unwrap(), &[], 0);
        assert_eq!(turn, Turn { delay: Duration::from_secs(2), step: Step::Text("A".into()) });
        let turn = progress.next(&"sleep:2".parse().unwrap(), &[], 0);
        assert_eq!(turn.step, Step::Text(DEFAULT_TEXT.into()));
    }
}
