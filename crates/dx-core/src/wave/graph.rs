//! Who needs whom: layers, cycles, and who may be at work at the same time. Over positions, so that files, journals and
//! tests can all use it.

use std::collections::BTreeSet;

/// The needs of each item, as positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    needs: Vec<Vec<usize>>,
}

impl Graph {
    /// Positions beyond the end are passed over.
    pub fn new(needs: Vec<Vec<usize>>) -> Self {
        let len = needs.len();
        let clean = |list: Vec<usize>| list.into_iter().filter(|at| *at < len).collect();
        Self { needs: needs.into_iter().map(clean).collect() }
    }

    pub fn needs(&self, of: usize) -> &[usize] {
        self.needs.get(of).map_or(&[], Vec::as_slice)
    }

    /// Layers in order: what an item needs is in layers before its own. The error is a cycle, each needing the next, the
    /// last the first.
    pub fn layers(&self) -> Result<Vec<Vec<usize>>, Vec<usize>> {
        let mut placed = vec![false; self.needs.len()];
        let mut layers = Vec::new();
        loop {
            let ready = |at: &usize| !placed[*at] && self.needs(*at).iter().all(|need| placed[*need]);
            let layer: Vec<usize> = (0..self.needs.len()).filter(ready).collect();
            if layer.is_empty() {
                break;
            }
            for at in &layer {
                placed[*at] = true;
            }
            layers.push(layer);
        }
        match placed.iter().position(|placed| !placed) {
            None => Ok(layers),
            Some(first) => Err(self.cycle(first, &placed)),
        }
    }

    /// From any item that could not be placed, unplaced needs lead into a cycle.
    fn cycle(&self, from: usize, placed: &[bool]) -> Vec<usize> {
        let mut path = vec![from];
        loop {
            let last = path[path.len() - 1];
            let Some(next) = self.needs(last).iter().copied().find(|need| !placed[*need]) else {
                return path;
            };
            if let Some(start) = path.iter().position(|at| *at == next) {
                return path.split_off(start);
            }
            path.push(next);
        }
    }

    /// Everything that must be done before this one.
    pub fn ancestors(&self, of: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut open: Vec<usize> = self.needs(of).to_vec();
        while let Some(at) = open.pop() {
            if found.insert(at) {
                open.extend(self.needs(at));
            }
        }
        found
    }

    /// Pairs that no need keeps apart, in order.
    pub fn concurrent(&self) -> Vec<(usize, usize)> {
        let above: Vec<BTreeSet<usize>> = (0..self.needs.len()).map(|at| self.ancestors(at)).collect();
        let pairs = (0..self.needs.len()).flat_map(|a| (a + 1..self.needs.len()).map(move |b| (a, b)));
        pairs.filter(|(a, b)| !above[*a].contains(b) && !above[*b].contains(a)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diamond_has_three_layers() {
        let graph = Graph::new(vec![vec![], vec![0], vec![0], vec![1, 2]]);
        assert_eq!(graph.layers().unwrap(), [vec![0], vec![1, 2], vec![3]]);
        assert_eq!(graph.ancestors(3).into_iter().collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(graph.concurrent(), [(1, 2)]);
    }

    #[test]
    fn a_cycle_is_named_without_what_only_leads_to_it() {
        let graph = Graph::new(vec![vec![1], vec![2], vec![3], vec![1], vec![]]);
        assert_eq!(graph.layers().unwrap_err(), [1, 2, 3]);
        assert_eq!(Graph::new(vec![vec![0]]).layers().unwrap_err(), [0]);
    }
}
