//! Which observations belong together, and the sparse counts that are kept of them.
//!
//! Cases that share a source document, and repeats of one case, are not independent. A case's group is its cluster; with
//! several repeats and no group the case itself is.

use std::collections::BTreeMap;

/// The cluster of an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cluster {
    /// It stands by itself; nothing is kept of it but its count.
    Alone,
    /// It shares the dataset's group of this number with others.
    Group(u32),
    /// It is one of several repeats of the case of this number.
    Case(u32),
}

impl Cluster {
    /// The cluster of a trial: its group, else its case if there are several repeats, else none.
    pub fn of_trial(group: Option<u32>, case: u64, repeats: u32) -> Self {
        match group {
            Some(group) => Self::Group(group),
            None if repeats > 1 => Self::Case(case as u32),
            None => Self::Alone,
        }
    }
}

/// Cells of the confusion matrix that stand for an answer: 3 expected labels × 4 classes.
pub const CELLS: usize = 12;

/// How often each cell occurs in one cluster.
pub type Cells = [u32; CELLS];

/// A composition that clusters have, and how many have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// The counts of each such cluster.
    pub cells: Cells,
    /// How many clusters are of this kind.
    pub clusters: u64,
}

/// Counts per cluster while they come in, eight bytes for each cell that a cluster has met.
#[derive(Debug, Clone, Default)]
pub struct ClusterCounts {
    alone: [u64; CELLS],
    /// Cluster (33 bits), cell (4 bits), count (27 bits); sorted and merged from time to time.
    entries: Vec<u64>,
    merge_at: usize,
}

const COUNT_BITS: u32 = 27;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

impl ClusterCounts {
    /// Counts an observation in a cell (below [`CELLS`]).
    pub fn add(&mut self, cell: usize, cluster: Cluster) {
        let number = match cluster {
            Cluster::Alone => {
                self.alone[cell] += 1;
                return;
            }
            Cluster::Group(number) => u64::from(number) << 1,
            Cluster::Case(number) => (u64::from(number) << 1) | 1,
        };
        let entry = (((number << 4) | cell as u64) << COUNT_BITS) | 1;
        if let Some(last) = self.entries.last_mut()
            && *last & !COUNT_MASK == entry & !COUNT_MASK
            && *last & COUNT_MASK != COUNT_MASK
        {
            *last += 1;
            return;
        }
        self.entries.push(entry);
        if self.entries.len() >= self.merge_at.max(4096) {
            self.merge();
            self.merge_at = self.entries.len() * 2;
        }
    }

    fn merge(&mut self) {
        self.entries.sort_unstable();
        self.entries.dedup_by(|later, kept| {
            let sum = (*later & COUNT_MASK) + (*kept & COUNT_MASK);
            let same = *later & !COUNT_MASK == *kept & !COUNT_MASK && sum <= COUNT_MASK;
            if same {
                *kept = (*kept & !COUNT_MASK) | sum;
            }
            same
        });
    }

    /// The compositions that occur, in a fixed order.
    pub fn kinds(mut self) -> Vec<Kind> {
        self.merge();
        let mut kinds: BTreeMap<Cells, u64> = BTreeMap::new();
        for (cell, &clusters) in self.alone.iter().enumerate().filter(|(_, n)| **n > 0) {
            let mut cells = [0; CELLS];
            cells[cell] = 1;
            kinds.insert(cells, clusters);
        }
        for cluster in self.entries.chunk_by(|a, b| a >> (COUNT_BITS + 4) == b >> (COUNT_BITS + 4)) {
            let mut cells = [0u32; CELLS];
            for entry in cluster {
                let cell = (entry >> COUNT_BITS & 15) as usize;
                cells[cell] = cells[cell].saturating_add((entry & COUNT_MASK) as u32);
            }
            *kinds.entry(cells).or_default() += 1;
        }
        kinds.into_iter().map(|(cells, clusters)| Kind { cells, clusters }).collect()
    }
}

/// A share over clusters: how many of the observations that count succeed, and how the clusters differ in it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ClusteredShare {
    /// Successes.
    pub successes: u64,
    /// Observations that count.
    pub n: u64,
    /// Clusters that have one.
    pub clusters: u64,
    /// Sum over clusters of the squared sum of deviations from the share.
    pub squares: f64,
}

/// The share of `success` among `counted`, both given as sums over a cluster's cells.
pub fn share(kinds: &[Kind], success: impl Fn(&Cells) -> u64, counted: impl Fn(&Cells) -> u64) -> ClusteredShare {
    let mut all = ClusteredShare::default();
    for kind in kinds {
        let n = counted(&kind.cells);
        all.successes += success(&kind.cells) * kind.clusters;
        all.n += n * kind.clusters;
        all.clusters += if n > 0 { kind.clusters } else { 0 };
    }
    let share = all.successes as f64 / all.n.max(1) as f64;
    for kind in kinds {
        let deviation = success(&kind.cells) as f64 - share * counted(&kind.cells) as f64;
        all.squares += kind.clusters as f64 * deviation * deviation;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_together_whatever_their_order() {
        let mut counts = ClusterCounts::default();
        for round in 0..3 {
            for group in 0..3000 {
                counts.add(round, Cluster::Group(group));
                counts.add(0, Cluster::Case(group));
            }
        }
        counts.add(11, Cluster::Alone);
        counts.add(11, Cluster::Alone);
        let mut cells = [[0; CELLS]; 3];
        (cells[0][11], cells[2][0]) = (1, 3);
        cells[1][..3].copy_from_slice(&[1, 1, 1]);
        let expected = [(cells[0], 2), (cells[1], 3000), (cells[2], 3000)];
        assert_eq!(counts.kinds(), expected.map(|(cells, clusters)| Kind { cells, clusters }));
    }

    #[test]
    fn repeats_of_an_ungrouped_case_are_a_cluster() {
        assert_eq!(Cluster::of_trial(None, 5, 1), Cluster::Alone);
        assert_eq!(Cluster::of_trial(None, 5, 3), Cluster::Case(5));
        assert_eq!(Cluster::of_trial(Some(2), 5, 3), Cluster::Group(2));
    }
}
