//! A wave's graph as text, Mermaid or DOT.
//!
//! Called by: `wave plan`. Must never: trust a name; ids are quoted where a format could take them for something else.

use std::fmt::Write as _;

use dx_protocol::{WaveItem, WavePlanDocument};

fn count(number: usize, of: &str) -> String {
    if number == 1 { format!("1 {of}") } else { format!("{number} {of}s") }
}

/// By layer, for people.
pub(crate) fn text(document: &WavePlanDocument) -> String {
    let plan = &document.plan;
    let mut lines = vec![
        format!(
            "wave {}: {} in {}",
            plan.name,
            count(plan.items.len(), "item"),
            count(document.layers.len(), "layer")
        ),
        format!("  repo {}, from {}, at most {} at once", plan.repo, plan.base, plan.max_parallel),
    ];
    for (number, layer) in document.layers.iter().enumerate() {
        lines.push(format!("layer {}", number + 1));
        for id in layer {
            if let Some(item) = plan.items.iter().find(|item| item.id.as_str() == id) {
                lines.push(format!("  {}", item_line(item)));
            }
        }
    }
    lines.extend(document.left_out.iter().map(|left| format!("left out: {}, because {}", left.id, left.why)));
    if let Some(branch) = &plan.merge_into {
        lines.push(format!("then everything is merged into {branch}"));
    }
    lines.join("\n")
}

fn item_line(item: &WaveItem) -> String {
    let providers: Vec<&str> = item.providers.iter().map(dx_protocol::ProviderName::as_str).collect();
    let mut line = format!("{}  {}", item.id, providers.join(" → "));
    if let Some(model) = &item.model {
        let _fits = write!(line, " ({model})");
    }
    if !item.needs.is_empty() {
        let needs: Vec<&str> = item.needs.iter().map(dx_protocol::BeadsId::as_str).collect();
        let _fits = write!(line, "  needs {}", needs.join(", "));
    }
    if !item.scope.is_empty() {
        let _fits = write!(line, "  scope {}", item.scope.join(" "));
    }
    if let Some(check) = &item.check {
        let _fits = write!(line, "  check `{}`", check.escape_debug());
    }
    if let Some(review) = &item.review {
        let _fits = write!(line, "  review by {}", review.provider);
    }
    line
}

/// A Mermaid flow chart: needs point at what needs them.
pub(crate) fn mermaid(document: &WavePlanDocument) -> String {
    let items = &document.plan.items;
    let mut lines = vec!["graph TD".to_owned()];
    lines.extend(items.iter().enumerate().map(|(at, item)| format!("  n{at}[\"{}\"]", item.id)));
    lines.extend(edges(items).map(|(from, to)| format!("  n{from} --> n{to}")));
    lines.join("\n")
}

/// A graph for Graphviz.
pub(crate) fn dot(document: &WavePlanDocument) -> String {
    let items = &document.plan.items;
    let mut lines = vec![format!("digraph \"{}\" {{", document.plan.name), "  rankdir=TB;".to_owned()];
    lines.extend(items.iter().map(|item| format!("  \"{}\";", item.id)));
    lines.extend(edges(items).map(|(from, to)| format!("  \"{}\" -> \"{}\";", items[from].id, items[to].id)));
    lines.push("}".to_owned());
    lines.join("\n")
}

/// Need and item, by position.
fn edges(items: &[WaveItem]) -> impl Iterator<Item = (usize, usize)> {
    items.iter().enumerate().flat_map(move |(to, item)| {
        item.needs.iter().filter_map(move |need| {
            let from = items.iter().position(|other| other.id == *need)?;
            Some((from, to))
        })
    })
}
