//! The steps of the settler: provider, repository, work, gates. Each is told as soon as it is known and only while the journal
//! does not have it, so that a settler that died is started again and changes nothing that stands.
//!
//! Called by the settler's hidden entry and by commands that settle a run themselves. Must never run the command of
//! `--check`: that is a monitor's ([`dx_core::check_is_due`] tells when).

use crate::api::JobName;
use crate::fingerprint::Fingerprint;
use crate::gates::scope::Scope;
use crate::gates::unseen::Look;
use crate::gates::{feature_key, touched};
use crate::git::Repository;
use crate::lanes;
use crate::lookup::{self, Found};
use crate::providers::rules;
use crate::secrets::Masking;
use crate::work::{self, Work};
use crate::worktree::Place;
use dx_core::Run;
use dx_jobdir::{StateDir, claim, disk, ended, faults, read_bounded};
use dx_monitor::Access;
use dx_protocol::{
    BeadsId, Created, Event, Exit, Finding, GATE_COMMIT, GATE_FEATURE_KEY, GATE_READ_ONLY, GATE_REPOSITORY,
    GateReport, ProviderReport, ReasonCode, Record, RefChange, RunUuid, Settled, Timestamp, TreeStart,
    WorkReport,
};
use std::borrow::Cow;
use std::path::Path;

/// Lists in a report have no more entries than this.
const MAX_NAMES: usize = 100;
/// Runs of the same time are not looked at beyond this.
const MAX_RUNS: usize = 500;
/// The first record of a journal is not read beyond this.
const MAX_CREATED_BYTES: u64 = 1 << 20;

/// Goes through the steps that are missing. `tell` says whether it could be told. `server_password` is that of the job's
/// server, when it is known.
pub(crate) fn run(
    state: &StateDir,
    run: &Run,
    found: &Found,
    masking: &Masking,
    server_password: Option<String>,
    tell: &mut dyn FnMut(Settled) -> bool,
) -> bool {
    // First: a session that goes on would still change files.
    let strays = lanes::end_session(state, run, server_password);
    let mut told = true;
    if run.provider.is_none() {
        let (mut report, mended) = provider(run, found, masking);
        if let Settled::Provider(report) = &mut report {
            (report.strays, report.strays_left) = (strays.ended, strays.left);
        }
        told = masking.fact(!mended).is_none_or(&mut *tell) && tell(report);
    }
    faults::step("settler.provider_told");
    let Some(tree) = &run.created.tree else { return told };
    let due = dx_core::gates_due(run);
    if run.work.is_some() && due.is_empty() {
        return told;
    }
    // Where everything leads comes first; git is asked by the recorded paths, whatever this finds.
    let before = Fingerprint::load(&found.paths.repository());
    let now = before.is_some().then(|| Fingerprint::take(&Repository::recorded(tree)));
    let looks = before.as_ref().zip(now.as_ref());
    if run.work.is_none()
        && let Some(names) =
            looks.map(|(before, now)| before.redirected(now)).filter(|names| !names.is_empty())
    {
        let report = GateReport::new(false, ReasonCode::RepositoryRedirected, names.join(", "));
        told &= tell(Settled::Gate { name: GATE_REPOSITORY.to_owned(), report });
    }
    let mut work = work::report(tree, &found.paths.tree(), before.as_ref(), found.changed());
    if let Some((before, now)) = looks {
        look_around(state, &run.created, tree, (before, now), &mut work);
    }
    mask(&mut work.report, masking);
    if run.work.is_none() {
        told &= tell(Settled::Work(work.report.clone()));
    }
    faults::step("settler.work_told");
    let since = run.created_at;
    for name in due {
        let report = match name {
            GATE_COMMIT => dx_core::commit_gate(tree.head.as_deref(), &work.report),
            GATE_READ_ONLY => read_only(tree, &work, since),
            GATE_FEATURE_KEY => feature_keys(&run.created, tree, &work),
            _ => {
                let gates = &run.created.spec.gates;
                let patterns = (&gates.scopes()[..], &gates.forbidden[..]);
                touched::scope(tree, &work, since, patterns, gates.mutation_budget)
            }
        };
        let details = masking.secrets.mask_text(&report.details).into_owned();
        let report = GateReport { details, ..report };
        told &= tell(Settled::Gate { name: name.to_owned(), report });
    }
    told
}

/// The provider's verdict: the whole log parsed and, where that is wanted, masked once more. `false` when a secret could not
/// be taken out of a file.
pub(crate) fn provider(run: &Run, found: &Found, masking: &Masking) -> (Settled, bool) {
    let grammar = run.created.contract.grammar;
    let (summary, mended) = crate::job_files::summarise(&found.paths, grammar, masking);
    // Nobody but the agent reads the prompt, and it has ended.
    let prompt = masking.access == Access::Read || masking.mend(&found.paths.prompt());
    // Nobody reads any more what an adapter script said; the monitor has recorded it, or died on the way.
    let adapter = masking.access == Access::Read || disk::remove(&found.paths.adapter()).is_ok();
    let clean =
        run.end.as_ref().and_then(|end| end.exit.as_ref()).is_some_and(|seen| seen.exit == Exit::Code(0));
    let rules = &run.created.contract.output_rules;
    let report = Settled::Provider(ProviderReport {
        strays: 0,
        strays_left: 0,
        verdict: rules::judge(summary.verdict(), rules, &found.paths, grammar, clean, masking),
        usage: summary.usage,
        tools: summary
            .tools
            .iter()
            .map(|(name, n)| (name.clone(), u64::from(n.ok) + u64::from(n.failed)))
            .collect(),
        session: summary.session.clone(),
        writes_refused: summary.writes_refused.clone(),
        trouble: summary.trouble(),
    });
    (report, mended && prompt && adapter)
}

/// What git ignores is not in the report of the work: of that only forbidden files count, and no build output.
fn read_only(tree: &TreeStart, work: &Work, since: Timestamp) -> GateReport {
    let report = dx_core::read_only_gate(&work.report);
    if !report.passed {
        return report;
    }
    match Scope::parse(&[], &[]).map(|scope| Look::of(tree, since).forbidden(&scope)) {
        Ok(found) if found.is_empty() => report,
        Ok(found) => {
            let named: Vec<String> =
                found.iter().take(MAX_NAMES).map(|path| path.escape_debug().to_string()).collect();
            let details = format!("changed: {}", named.join(", "));
            GateReport::new(false, ReasonCode::ReadOnlyViolation, details)
        }
        Err(error) => GateReport::new(false, ReasonCode::GateUnanswered, error.to_string()),
    }
}

/// Every commit of the job carries every key; the first key that is missing is told.
fn feature_keys(created: &Created, tree: &TreeStart, work: &Work) -> GateReport {
    let unanswered = |why: String| GateReport::new(false, ReasonCode::GateUnanswered, why);
    if !work.report.known {
        return unanswered("git could not tell where HEAD is".to_owned());
    }
    let Some(head) = work.report.head.as_deref() else {
        return GateReport::new(false, ReasonCode::NoCommitsInRange, "there is no commit");
    };
    let repository = Repository::recorded(tree);
    let mut passed = unanswered("no key was asked for".to_owned());
    for key in &created.spec.gates.feature_keys {
        match feature_key::of_range(&repository, key, tree.head.as_deref(), head) {
            Ok((report, _)) if report.passed => passed = report,
            Ok((report, _)) => return report,
            Err(error) => return unanswered(error.to_string()),
        }
    }
    passed
}

/// Adds to the report what a reviewer should know: other branches, configuration, hooks.
fn look_around(
    state: &StateDir,
    created: &Created,
    tree: &TreeStart,
    (before, now): (&Fingerprint, &Fingerprint),
    work: &mut Work,
) {
    let report = &mut work.report;
    let mut refs = before.foreign_refs(now, tree.branch.as_deref(), report.branch.as_deref());
    let (count, named) = (refs.len(), refs.len().min(MAX_NAMES));
    refs.truncate(named);
    attribute(state, created, tree, &mut refs);
    let mut finding = |reason_code, mut names: Vec<String>| {
        if !names.is_empty() {
            names.truncate(MAX_NAMES);
            report.findings.push(Finding { reason_code, names });
        }
    };
    let strange = refs.iter().filter(|change| change.job.is_none()).map(|change| change.name.clone());
    let mut strange: Vec<String> = strange.collect();
    if count > named {
        strange.push(format!("{} more", count - named));
    }
    finding(ReasonCode::ForeignRefChanged, strange);
    finding(ReasonCode::GitConfigChanged, before.changed_config(now));
    finding(ReasonCode::GitHooksChanged, before.changed_hooks(now));
    report.foreign_refs = refs;
}

/// Names and subjects are an agent's to choose, and may be secrets.
fn mask(report: &mut WorkReport, masking: &Masking) {
    let subjects = report.commit_list.iter_mut().map(|commit| &mut commit.subject);
    let refs = report.foreign_refs.iter_mut().map(|change| &mut change.name);
    let names = report.findings.iter_mut().flat_map(|finding| &mut finding.names);
    for text in
        report.files_changed.iter_mut().chain(&mut report.branch).chain(subjects).chain(refs).chain(names)
    {
        if let Cow::Owned(masked) = masking.secrets.mask_text(text) {
            *text = masked;
        }
    }
}

/// Names the jobs of ours that ran at the same time on the branches that changed, those that a new branch was made for, and
/// those that only looked, and whose branch is gone: nobody has to wonder about those.
fn attribute(state: &StateDir, created: &Created, tree: &TreeStart, refs: &mut [RefChange]) {
    if refs.is_empty() {
        return;
    }
    let own = &created.ids.run_uuid;
    let since = uuid_time(own);
    let mut runs: Vec<RunUuid> = Vec::new();
    for claim in claim::claims(state) {
        runs.extend(
            lookup::read_run(state, &claim.path, true).ok().map(|found| found.run.created.ids.run_uuid),
        );
    }
    ended::newest_first(state, since, &mut |outcome| {
        runs.push(outcome.ids.run_uuid);
        runs.len() < MAX_RUNS
    });
    for other in runs.iter().filter(|other| *other != own).take(MAX_RUNS) {
        let Some(other) = first_record(state, other) else { continue };
        let Some((branch, there)) = other.tree.as_ref().and_then(|t| Some((t.branch.as_ref()?, t))) else {
            continue;
        };
        if there.common_dir == tree.common_dir && there.work_tree != tree.work_tree {
            for change in refs.iter_mut().filter(|change| change.name == format!("refs/heads/{branch}")) {
                change.job.get_or_insert_with(|| other.ids.beads.to_string());
            }
        }
    }
    for change in refs.iter_mut().filter(|change| change.job.is_none()) {
        let beads = made_for(tree, change).or_else(|| looked_at(state, tree, change));
        change.job = beads.map(|beads| beads.to_string());
    }
}

/// The read-only job whose branch went with its worktree. A review may have ended before this job began; nothing is lost, as
/// the branch was where it began.
fn looked_at(state: &StateDir, tree: &TreeStart, change: &RefChange) -> Option<BeadsId> {
    let name = change.name.strip_prefix("refs/heads/").filter(|_| change.now.is_none())?;
    let job = JobName { beads: name.parse().ok()?, provider: None };
    let found = lookup::newest_ours(state, &job).ok()?;
    let created = found.run.created;
    let there = created.tree.filter(|_| created.spec.gates.read_only)?;
    let same = there.common_dir == tree.common_dir && there.branch.as_deref() == Some(name);
    (same && there.head == change.was).then_some(job.beads)
}

/// The id whose worktree, beside this one, a new branch was made for by us: nobody has worked on it yet.
fn made_for(tree: &TreeStart, change: &RefChange) -> Option<BeadsId> {
    let name = change.name.strip_prefix("refs/heads/").filter(|_| change.was.is_none())?;
    let root = Path::new(&tree.work_tree).parent()?.parent()?;
    let beads: BeadsId = name.parse().ok()?;
    let made = |place: &Place| {
        let made = place.load()?;
        (made.branch == name && made.common_dir == tree.common_dir && Some(&made.base) == change.now.as_ref())
            .then_some(made.beads)
    };
    Place::of_id(root, &beads).iter().find_map(made)
}

fn uuid_time(uuid: &RunUuid) -> Option<Timestamp> {
    let (seconds, nanos) = uuid::Uuid::parse_str(uuid.as_str()).ok()?.get_timestamp()?.to_unix();
    let millis = seconds.checked_mul(1000)?.checked_add(u64::from(nanos) / 1_000_000)?;
    i64::try_from(millis).ok().map(Timestamp)
}

fn first_record(state: &StateDir, uuid: &RunUuid) -> Option<Created> {
    let bytes = read_bounded(&state.run(uuid).journal(), MAX_CREATED_BYTES).ok()?;
    let line = bytes.split(|byte| *byte == b'\n').find(|line| !line.is_empty())?;
    let record: Record = serde_json::from_slice(line).ok()?;
    if let Event::Created(created) = record.event { Some(*created) } else { None }
}
