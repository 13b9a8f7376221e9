//! Which items there are, what needs what, and whether what may run at once keeps apart.
//!
//! Part of the check of a wave file. Must never: look at anything but the file.

use super::Check;
use super::branches::Branches;
use crate::wave::file::WaveFile;
use dx_core::wave::{Graph, overlap};
use dx_protocol::WavePlan;
use std::collections::BTreeMap;

impl Check<'_> {
    /// Positions by id; mistakes in ids are told.
    pub(super) fn ids(&mut self, file: &WaveFile, there: &Branches) -> BTreeMap<String, usize> {
        let mut ids: BTreeMap<String, usize> = BTreeMap::new();
        for (at, item) in file.items.iter().enumerate() {
            let Some(id) = &item.id else {
                self.wrong(&item.place, "an item has no `id`", "give it one");
                continue;
            };
            if let Some(unfit) = there.unfit(&id.value) {
                let (what, fix) = unfit.of_item(&id.value);
                self.wrong(&id.place, what, fix);
            }
            if let Some(first) = ids.get(&id.value) {
                let line = file.items[*first].place.line;
                self.wrong(
                    &id.place,
                    format!("the id `{}` is there twice, first in line {line}", id.value),
                    "give one of them another id",
                );
            } else {
                ids.insert(id.value.clone(), at);
            }
        }
        ids
    }

    pub(super) fn graph(
        &mut self,
        file: &WaveFile,
        ids: &BTreeMap<String, usize>,
    ) -> (Graph, Option<Vec<Vec<usize>>>) {
        let mut needs = Vec::new();
        for (at, item) in file.items.iter().enumerate() {
            let mut own = Vec::new();
            for need in &item.needs {
                match ids.get(&need.value) {
                    Some(other) if *other == at => {
                        self.wrong(
                            &need.place,
                            format!("`{}` needs itself", need.value),
                            "take it out of `needs`",
                        );
                    }
                    Some(other) => own.push(*other),
                    None => {
                        let score = |id: &&String| strsim::jaro_winkler(id, &need.value);
                        let near = ids.keys().max_by(|a, b| score(a).total_cmp(&score(b)));
                        let fix = match near.filter(|id| score(id) > 0.7) {
                            Some(near) => format!("did you mean `{near}`?"),
                            None => "name the id of an item of this file".to_owned(),
                        };
                        self.wrong(&need.place, format!("there is no item `{}`", need.value), fix);
                    }
                }
            }
            needs.push(own);
        }
        let graph = Graph::new(needs);
        match graph.layers() {
            Ok(layers) => (graph, Some(layers)),
            Err(cycle) => {
                let id = |at: &usize| file.items[*at].id.as_ref().map_or("?", |id| id.value.as_str());
                let mut names: Vec<&str> = cycle.iter().map(id).collect();
                names.push(names[0]);
                let first = &file.items[cycle[0]];
                let place = first
                    .needs
                    .iter()
                    .find(|need| Some(&need.value.as_str()) == names.get(1))
                    .map_or(&first.place, |need| &need.place);
                let what = format!("items need each other in a circle: {}", names.join(" needs "));
                self.wrong(place, what, "take one of these needs away");
                (graph, None)
            }
        }
    }

    /// Scopes that items which no need keeps apart have in common.
    pub(super) fn scopes(&mut self, file: &WaveFile, plan: &WavePlan, graph: &Graph) {
        for (a, b) in graph.concurrent() {
            let (left, right) = (&plan.items[a], &plan.items[b]);
            let Some((x, y)) = overlap(&left.scope, &right.scope) else { continue };
            let item = &file.items[b];
            let place = item.work.scope.as_ref().map_or(&item.place, |scope| &scope.place);
            let what = format!(
                "the scopes of `{}` and `{}` overlap (`{x}` and `{y}`), and both may run at once",
                left.id, right.id
            );
            self.wrong(place, what, format!("narrow one of them, or let `{}` need `{}`", right.id, left.id));
        }
    }
}
