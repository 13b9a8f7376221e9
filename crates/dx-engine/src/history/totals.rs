//! What runs add up to, per provider and model: a pure function of history lines.

use dx_protocol::{HistoryLine, ReportAllDocument, ReportTotals, Timestamp};
use std::collections::BTreeMap;

/// Stands for "all" where a name would be.
const ALL: &str = "*";

/// The document of `report --all`; `lines` come the last ended first.
pub(super) fn document(
    now: Timestamp,
    since: Option<Timestamp>,
    lines: Vec<HistoryLine>,
) -> ReportAllDocument {
    let mut providers: BTreeMap<&str, Vec<&HistoryLine>> = BTreeMap::new();
    let mut models: BTreeMap<(&str, &str), Vec<&HistoryLine>> = BTreeMap::new();
    for line in &lines {
        providers.entry(&line.provider).or_default().push(line);
        models.entry((&line.provider, &line.selected_model)).or_default().push(line);
    }
    ReportAllDocument {
        schema: "dx-runner/report-all/1".to_owned(),
        generated_at: now.to_string(),
        since: since.map_or_else(|| "-".to_owned(), |since| since.to_string()),
        total: totals(ALL, ALL, &lines.iter().collect::<Vec<_>>()),
        providers: providers.iter().map(|(name, lines)| totals(name, ALL, lines)).collect(),
        models: models.iter().map(|((name, model), lines)| totals(name, model, lines)).collect(),
        runs: lines,
    }
}

fn totals(provider: &str, model: &str, lines: &[&HistoryLine]) -> ReportTotals {
    let count = |state: &str| lines.iter().filter(|line| line.state == state).count() as u64;
    let sum = |of: fn(&HistoryLine) -> u64| lines.iter().fold(0u64, |sum, line| sum.saturating_add(of(line)));
    let mut durations: Vec<u64> = lines.iter().map(|line| line.duration_sec).collect();
    durations.sort_unstable();
    let runs = lines.len() as u64;
    let succeeded = count("success");
    let costs: Vec<f64> = lines.iter().filter_map(|line| line.cost_usd).collect();
    ReportTotals {
        provider: provider.to_owned(),
        model: model.to_owned(),
        runs,
        succeeded,
        failed: count("failed"),
        killed: count("killed"),
        no_op: count("no_op"),
        success_rate: (runs > 0).then(|| succeeded as f64 / runs as f64),
        duration_p50_sec: quantile(&durations, 50),
        duration_p95_sec: quantile(&durations, 95),
        input_tokens: sum(|line| line.input_tokens),
        output_tokens: sum(|line| line.output_tokens),
        cached_tokens: sum(|line| line.cached_tokens),
        cost_usd: (!costs.is_empty()).then(|| costs.iter().sum()),
        mutations: sum(|line| line.mutations),
        commits: sum(|line| line.commits),
    }
}

/// The smallest value that so many of a hundred do not exceed; 0 of none.
fn quantile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(
        provider: &str,
        model: &str,
        state: &str,
        duration_sec: u64,
        cost_usd: Option<f64>,
    ) -> HistoryLine {
        let mut line: HistoryLine = serde_json::from_str(r#"{"schema":"dx-runner/history/1"}"#).unwrap();
        (line.provider, line.selected_model, line.state) = (provider.into(), model.into(), state.into());
        (line.duration_sec, line.input_tokens, line.cost_usd) = (duration_sec, 10, cost_usd);
        line
    }

    #[test]
    fn rows_add_up() {
        let lines = vec![
            line("opencode", "a", "success", 10, Some(0.5)),
            line("opencode", "b", "failed", 30, Some(0.25)),
            line("opencode", "a", "success", 20, None),
            line("exec", "-", "killed", 5, None),
        ];
        let document = document(Timestamp(0), None, lines);
        assert_eq!((document.total.runs, document.total.input_tokens), (4, 40));
        assert_eq!(document.total.success_rate, Some(0.5));
        assert_eq!(document.total.cost_usd, Some(0.75));
        let names: Vec<(&str, &str, u64)> = document
            .providers
            .iter()
            .chain(&document.models)
            .map(|row| (row.provider.as_str(), row.model.as_str(), row.runs))
            .collect();
        assert_eq!(
            names,
            [
                ("exec", "*", 1),
                ("opencode", "*", 3),
                ("exec", "-", 1),
                ("opencode", "a", 2),
                ("opencode", "b", 1)
            ]
        );
        let opencode = &document.providers[1];
        assert_eq!((opencode.duration_p50_sec, opencode.duration_p95_sec), (20, 30));
        assert_eq!(document.providers[0].cost_usd, None);
    }

    #[test]
    fn quantiles_of_few() {
        assert_eq!([quantile(&[], 50), quantile(&[7], 50), quantile(&[7], 95)], [0, 7, 7]);
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!([quantile(&hundred, 50), quantile(&hundred, 95)], [50, 95]);
    }
}
