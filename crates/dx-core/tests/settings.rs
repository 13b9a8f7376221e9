//! Layers of configuration: a table of what counts, and properties of "projects and profiles only tighten".

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use dx_core::settings::{Fate, Layer, Merged, Rule, Scale, Value, Word, merge};
use proptest::prelude::*;
use std::collections::BTreeSet;

const LIMIT: Rule = Rule::Tighten(Scale::NumberOrNever);
const SANDBOX: Scale = Scale::Words(&["off", "strict"]);

fn word(layer: Layer, own: bool, value: Value) -> Word {
    Word { layer, own, value }
}

/// A limit: `layer=number`; a profile with `!` is the project's.
fn limits(text: &str) -> Vec<Word> {
    let one = |part: &str| {
        let (name, number) = part.split_once('=').unwrap();
        let own = !name.ends_with('!') && name != "project";
        let layer = Layer::ALL.into_iter().find(|l| l.as_str() == name.trim_end_matches('!')).unwrap();
        word(layer, own, Value::Number(number.parse().unwrap()))
    };
    text.split_whitespace().map(one).collect()
}

fn number(merged: &Merged) -> u64 {
    match merged.value {
        Some(Value::Number(n)) => n,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn limits_by_example() {
    for (words, allow, expected) in [
        ("default=120", None, 120),
        // The user's own words replace each other, both ways.
        ("default=120 user=240", None, 240),
        ("default=120 user=240 flag=0", None, 0),
        ("default=120 environment=5 flag=300", None, 300),
        ("default=120 profile=240", None, 240),
        // A project only tightens, also against the command line.
        ("default=120 project=30", None, 30),
        ("default=120 project=240", None, 120),
        ("default=120 project=0", None, 120),
        ("default=120 project=30 flag=60", None, 30),
        ("default=120 project=30 flag=10", None, 10),
        ("default=120 project=30 profile=240 environment=90", None, 30),
        // What is above the project is still the user's, up to the project's word.
        ("default=120 project=240 flag=200", None, 200),
        ("default=120 project=240 flag=300", None, 240),
        // A profile holds too; one of the project never loosens.
        ("default=120 profile=20 flag=60", None, 20),
        ("default=120 profile!=240", None, 120),
        ("default=120 user=10 profile!=20", None, 10),
        // The user allows more, or less.
        ("default=120 project=240", Some(300), 240),
        ("default=120 project=500", Some(300), 300),
        ("default=120 project=30 flag=200", Some(300), 200),
        ("default=120 flag=0", Some(300), 300),
        ("default=120", Some(60), 60),
    ] {
        let merged = merge(LIMIT, &limits(words), allow.map(Value::Number).as_ref());
        assert_eq!(number(&merged), expected, "{words}, allowed {allow:?}: {merged:?}");
    }
}

#[test]
fn every_word_is_told_what_became_of_it() {
    let fates = |words: &str, allow: Option<u64>| {
        merge(LIMIT, &limits(words), allow.map(Value::Number).as_ref()).fates
    };
    assert_eq!(
        fates("default=120 user=90 project=30 flag=60", None),
        [Fate::Overridden, Fate::Overridden, Fate::Counts, Fate::Looser(2)]
    );
    assert_eq!(fates("default=120 project=240", None), [Fate::Counts, Fate::Looser(0)]);
    assert_eq!(fates("default=120 flag=240", Some(200)), [Fate::Overridden, Fate::CutToAllowed]);
    // 0 is never, and beyond everything.
    assert_eq!(fates("default=60 project=0", Some(120)), [Fate::Overridden, Fate::CutToAllowed]);
    assert_eq!(
        fates("default=60 project=0 flag=90", Some(120)),
        [Fate::Overridden, Fate::BeyondAllowed, Fate::Counts]
    );
    assert_eq!(fates("default=60 project=0", Some(0)), [Fate::Overridden, Fate::Counts]);
}

#[test]
fn switches_words_and_lists() {
    let list = |entries: &[&str]| Value::List(entries.iter().map(|e| (*e).to_owned()).collect());
    let of = |rule, words: &[Word], allow: Option<&Value>| merge(rule, words, allow).value.unwrap();
    let text = |word: &str| Value::Text(word.to_owned());

    let sandbox = |project: &str, flag: &str| {
        let words = [
            word(Layer::Default, true, text("strict")),
            word(Layer::Project, false, text(project)),
            word(Layer::Flag, true, text(flag)),
        ];
        of(Rule::Tighten(SANDBOX), &words, None)
    };
    assert_eq!(sandbox("strict", "off"), text("strict"));
    assert_eq!(sandbox("off", "strict"), text("strict"));

    let demands = [
        word(Layer::Flag, true, list(&["/c", "/a"])),
        word(Layer::User, true, list(&["/a"])),
        word(Layer::Project, false, list(&["/b"])),
    ];
    assert_eq!(of(Rule::Add, &demands, None), list(&["/a", "/b", "/c"]));
    let commands = [word(Layer::Project, false, text("make")), word(Layer::Flag, true, text("true"))];
    assert_eq!(of(Rule::Add, &commands, None), list(&["make", "true"]));
    assert_eq!(of(Rule::Add, &commands[..1], None), text("make"));

    let permit =
        [word(Layer::Default, true, Value::Bool(false)), word(Layer::Project, false, Value::Bool(true))];
    assert_eq!(of(Rule::Tighten(Scale::TruePermits), &permit, None), Value::Bool(false));
    assert_eq!(of(Rule::Tighten(Scale::TruePermits), &permit, Some(&Value::Bool(true))), Value::Bool(true));
    assert_eq!(of(Rule::Tighten(Scale::TrueDemands), &permit, None), Value::Bool(true));

    let places = [
        word(Layer::User, true, list(&["/a"])),
        word(Layer::Project, false, list(&["/", "/b"])),
        word(Layer::Environment, true, list(&["/c", "/a"])),
    ];
    assert_eq!(of(Rule::Grant, &places, None), list(&["/a", "/c"]));
    assert_eq!(of(Rule::Grant, &places, Some(&list(&["/b"]))), list(&["/a", "/b", "/c"]));
    assert_eq!(
        merge(Rule::Grant, &places, None).fates[1],
        Fate::Partly(vec!["/".to_owned(), "/b".to_owned()])
    );

    let variables = [
        word(Layer::User, true, list(&["A=1", "B"])),
        word(Layer::Project, false, list(&["A=2", "SSH_AUTH_SOCK", "C=x"])),
        word(Layer::Flag, true, list(&["B=3"])),
    ];
    assert_eq!(of(Rule::GrantNames, &variables, None), list(&["A=1", "B=3"]));
    assert_eq!(of(Rule::GrantNames, &variables, Some(&list(&["A", "C"]))), list(&["A=2", "C=x", "B=3"]));

    let models = [
        word(Layer::Default, true, list(&["m1", "m2", "m3"])),
        word(Layer::Project, false, list(&["m3", "m1", "m9"])),
    ];
    assert_eq!(of(Rule::Narrow, &models, None), list(&["m3", "m1"]));
    assert_eq!(of(Rule::Narrow, &models, Some(&list(&["m9"]))), list(&["m3", "m1", "m9"]));
    // Without a word of the user's everything may be chosen, and a project takes away from that.
    assert_eq!(of(Rule::Narrow, &models[1..], None), list(&["m3", "m1", "m9"]));
}

fn rules() -> impl Strategy<Value = Rule> {
    prop::sample::select(vec![
        LIMIT,
        Rule::Tighten(Scale::Number),
        Rule::Tighten(Scale::TruePermits),
        Rule::Tighten(Scale::TrueDemands),
        Rule::Tighten(SANDBOX),
        Rule::Grant,
        Rule::GrantNames,
        Rule::Narrow,
        Rule::Add,
    ])
}

fn value_for(rule: Rule) -> BoxedStrategy<Value> {
    match rule {
        Rule::Tighten(Scale::Number | Scale::NumberOrNever) => (0_u64..6).prop_map(Value::Number).boxed(),
        Rule::Tighten(Scale::TruePermits | Scale::TrueDemands) => any::<bool>().prop_map(Value::Bool).boxed(),
        Rule::Tighten(Scale::Words(words)) => {
            prop::sample::select(words.to_vec()).prop_map(|w| Value::Text(w.to_owned())).boxed()
        }
        Rule::Replace | Rule::Grant | Rule::GrantNames | Rule::Narrow | Rule::Add => {
            prop::sample::subsequence(vec!["a", "b", "c", "d"], 0..=4)
                .prop_shuffle()
                .prop_map(|l| Value::List(l.into_iter().map(str::to_owned).collect()))
                .boxed()
        }
    }
}

/// A rule, words with a default at least, what the user allows, and one word of the project's.
fn cases() -> impl Strategy<Value = (Rule, Vec<Word>, Option<Value>, Word)> {
    rules().prop_flat_map(|rule| {
        let said = |layer: Layer| {
            prop::option::of((any::<bool>(), value_for(rule)).prop_map(move |(own, value)| {
                let own = match layer {
                    Layer::Project => false,
                    Layer::Profile => own,
                    _ => true,
                };
                word(layer, own, value)
            }))
        };
        let words = (
            value_for(rule),
            said(Layer::User),
            said(Layer::Project),
            said(Layer::Profile),
            said(Layer::Environment),
            said(Layer::Flag),
        )
            .prop_map(|(default, a, b, c, d, e)| {
                let mut words = vec![word(Layer::Default, true, default)];
                words.extend([a, b, c, d, e].into_iter().flatten());
                words
            });
        let layer = prop::sample::select(vec![Layer::Project, Layer::Profile]);
        let more = (layer, value_for(rule)).prop_map(|(layer, value)| word(layer, false, value));
        (Just(rule), words, prop::option::of(value_for(rule)), more)
    })
}

/// Whether `a` permits nothing that `b` does not.
fn at_most(rule: Rule, a: &Value, b: &Value) -> bool {
    match (rule, a, b) {
        (Rule::Tighten(scale), _, _) => scale.looseness(a) <= scale.looseness(b),
        // What is demanded of one is demanded of the other.
        (Rule::Add, Value::List(a), Value::List(b)) => b.iter().all(|entry| a.contains(entry)),
        (_, Value::List(a), Value::List(b)) => {
            a.iter().collect::<BTreeSet<_>>().is_subset(&b.iter().collect())
        }
        _ => panic!("{a:?} {b:?}"),
    }
}

fn value(rule: Rule, words: &[Word], allow: Option<&Value>) -> Value {
    merge(rule, words, allow).value.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever there is, one more file of a project loosens nothing, unless the user allows more.
    #[test]
    fn a_projects_word_never_loosens((rule, words, _, more) in cases()) {
        let without = value(rule, &words, None);
        let with = value(rule, &[words, vec![more]].concat(), None);
        prop_assert!(at_most(rule, &with, &without), "{with:?} is looser than {without:?}");
    }

    /// All words of projects together stay within what the user's own words give.
    #[test]
    fn projects_stay_within_the_users_own_words((rule, words, _, _) in cases()) {
        let own: Vec<Word> = words.iter().filter(|w| w.own).cloned().collect();
        prop_assert!(at_most(rule, &value(rule, &words, None), &value(rule, &own, None)));
    }

    /// What a project or a profile says of a limit holds against every layer above it.
    #[test]
    fn projects_and_profiles_hold((rule, words, _, _) in cases()) {
        if let Rule::Tighten(_) = rule {
            let got = value(rule, &words, None);
            for held in words.iter().filter(|w| matches!(w.layer, Layer::Project | Layer::Profile)) {
                prop_assert!(at_most(rule, &got, &held.value), "{got:?} is looser than {held:?}");
            }
        }
    }

    /// With the user's bound nobody gets beyond it, or beyond the user's own words where that is a list.
    #[test]
    fn nobody_gets_beyond_what_the_user_allows((rule, words, allow, _) in cases()) {
        let got = value(rule, &words, allow.as_ref());
        match (rule, allow) {
            (Rule::Tighten(_), Some(bound)) => prop_assert!(at_most(rule, &got, &bound)),
            (Rule::Grant | Rule::GrantNames | Rule::Narrow, allow) => {
                let mut may: Vec<String> = Vec::new();
                let own = words.iter().filter(|w| w.own).map(|w| &w.value);
                for list in own.chain(allow.as_ref()) {
                    if let Value::List(entries) = list { may.extend(entries.iter().cloned()); }
                }
                prop_assert!(at_most(rule, &got, &Value::List(may)));
            }
            _ => {}
        }
    }

    /// A tighter word in a project's file gives no looser value.
    #[test]
    fn tightening_is_monotone((rule, words, allow, more) in cases()) {
        if let Rule::Tighten(scale) = rule {
            let mut tighter = words.clone();
            for word in tighter.iter_mut().filter(|w| w.layer == more.layer && !w.own) {
                if scale.looseness(&more.value) < scale.looseness(&word.value) { word.value = more.value.clone(); }
            }
            prop_assert!(at_most(rule, &value(rule, &tighter, allow.as_ref()), &value(rule, &words, allow.as_ref())));
        }
    }

    /// The order in which layers were read does not matter, and saying the same again changes nothing.
    #[test]
    fn order_does_not_matter((rule, words, allow, _) in cases()) {
        let got = value(rule, &words, allow.as_ref());
        let mut turned = words.clone();
        turned.reverse();
        prop_assert_eq!(&value(rule, &turned, allow.as_ref()), &got);
        let twice = [words.clone(), words].concat();
        prop_assert_eq!(value(rule, &twice, allow.as_ref()), got);
    }

    /// Each word has a fate, the one that decided counts, and it stands for the value.
    #[test]
    fn fates_agree_with_the_value((rule, words, allow, _) in cases()) {
        let merged = merge(rule, &words, allow.as_ref());
        prop_assert_eq!(merged.fates.len(), words.len());
        if let (Some(from), Rule::Tighten(_)) = (merged.from, rule) {
            prop_assert_eq!(&merged.fates[from], &Fate::Counts);
            prop_assert_eq!(Some(&words[from].value), merged.value.as_ref());
        }
        if let (Some(value), Rule::Tighten(_)) = (&merged.value, rule) {
            for (at, fate) in merged.fates.iter().enumerate() {
                if let Fate::Looser(than) = fate {
                    prop_assert!(!at_most(rule, &words[at].value, value) && Some(*than) == merged.from);
                }
            }
        }
    }
}
