//! Which jobs are run, in which order: the same for the same request, on every machine.

use dx_protocol::{BenchPlanned, BenchPrompt, BenchWorkflow};

/// One job to warm each workflow up, then all prompts in all rounds. Workflows take turns, and each prompt and round begins
/// with the next one, so that what changes with time falls on all alike and none is always first.
pub(crate) fn jobs(workflows: &[BenchWorkflow], prompts: &[BenchPrompt], rounds: u32) -> Vec<BenchPlanned> {
    let planned = |workflow: &BenchWorkflow, prompt: &BenchPrompt, round: u32| BenchPlanned {
        job: format!("r{round}-{}-{}", prompt.id, workflow.name),
        workflow: workflow.name.clone(),
        prompt: prompt.id.clone(),
        round,
    };
    // The shortest answer warms as well as a long one.
    let warm = prompts.iter().find(|prompt| prompt.category == "latency").or(prompts.first());
    let warm_up = warm.into_iter().flat_map(|prompt| workflows.iter().map(move |w| planned(w, prompt, 0)));
    let turns = (1..=rounds).flat_map(|round| prompts.iter().map(move |prompt| (round, prompt)));
    let measured = turns.enumerate().flat_map(|(turn, (round, prompt))| {
        let order = workflows.iter().cycle().skip(turn % workflows.len().max(1)).take(workflows.len());
        order.map(move |workflow| planned(workflow, prompt, round))
    });
    warm_up.chain(measured).collect()
}

#[cfg(test)]
mod tests {
    use super::jobs;
    use dx_protocol::{BenchPrompt, BenchWorkflow};
    use std::collections::BTreeSet;

    #[test]
    fn lanes_take_turns_and_nothing_is_left_out() {
        let lane = |name: &str| BenchWorkflow {
            name: name.to_owned(),
            system: "s".to_owned(),
            lane: "run".to_owned(),
            model: "-".to_owned(),
        };
        let prompt = |id: &str, category: &str| BenchPrompt {
            id: id.to_owned(),
            category: category.to_owned(),
            title: String::new(),
            checked: false,
        };
        let (lanes, prompts) =
            ([lane("a"), lane("b"), lane("c")], [prompt("p", "coding"), prompt("q", "latency")]);
        let plan = jobs(&lanes, &prompts, 3);
        assert_eq!(plan.len(), 3 + 3 * 2 * 3);
        assert!(plan[..3].iter().all(|job| job.round == 0 && job.prompt == "q"));
        let names: BTreeSet<_> = plan.iter().map(|job| &job.job).collect();
        assert_eq!(names.len(), plan.len());
        for turn in plan[3..].chunks(3) {
            let lanes: BTreeSet<_> = turn.iter().map(|job| &job.workflow).collect();
            assert_eq!((lanes.len(), &turn[0].prompt), (3, &turn[2].prompt));
        }
        for lane in ["a", "b", "c"] {
            assert_eq!(
                plan[3..].chunks(3).filter(|turn| turn[0].workflow == lane).count(),
                2,
                "{lane} is first"
            );
        }
        assert!(jobs(&[], &prompts, 1).is_empty());
    }
}
