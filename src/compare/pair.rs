//! Which case of one side is which of the other: the same id with the same texts and label.

use std::collections::HashMap;

use super::side::Side;

/// The cases of two sides put together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pairing {
    /// Places in the base and in the head, in the head's order.
    pub pairs: Vec<(usize, usize)>,
    /// For each pair the number of its cluster; cases without a group stand alone.
    pub clusters: Vec<u32>,
    /// How many clusters there are; `None` where every case stands alone.
    pub cluster_count: Option<u64>,
    /// Cases of the base without a partner.
    pub base_only: Vec<Unmatched>,
    /// Cases of the head without a partner.
    pub head_only: Vec<Unmatched>,
}

/// A case without a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unmatched {
    /// Its place.
    pub case: usize,
    /// Whether the other side has another case of that id.
    pub other_content: bool,
}

/// Pairs the cases of two sides. An id that a side has twice is paired by its content, each case at most once.
pub fn pair(base: &Side, head: &Side) -> Pairing {
    let mut pairing = Pairing::default();
    let mut partner: Vec<bool> = vec![false; base.cases.len()];
    // Made only where the two are not in step.
    let mut by_id: Option<HashMap<&str, Vec<usize>>> = None;
    let mut same_id: Vec<bool> = vec![false; base.cases.len()];
    for (place, case) in head.cases.iter().enumerate() {
        let in_step = base.cases.get(place).filter(|other| other.id == case.id && other.digest == case.digest);
        let found = match in_step {
            Some(_) if !partner[place] => Some(place),
            _ => {
                let index = by_id.get_or_insert_with(|| {
                    let mut index: HashMap<&str, Vec<usize>> = HashMap::with_capacity(base.cases.len());
                    for (place, case) in base.cases.iter().enumerate() {
                        index.entry(case.id.as_str()).or_default().push(place);
                    }
                    index
                });
                let places = index.get(case.id.as_str()).map(Vec::as_slice).unwrap_or_default();
                let found = places.iter().copied().find(|at| !partner[*at] && base.cases[*at].digest == case.digest);
                if found.is_none() {
                    for at in places {
                        same_id[*at] = true;
                    }
                    pairing.head_only.push(Unmatched { case: place, other_content: !places.is_empty() });
                }
                found
            }
        };
        if let Some(at) = found {
            partner[at] = true;
            pairing.pairs.push((at, place));
        }
    }
    pairing.base_only = (0..base.cases.len())
        .filter(|at| !partner[*at])
        .map(|case| Unmatched { case, other_content: same_id[case] })
        .collect();
    cluster(&mut pairing, base, head);
    pairing
}

/// Numbers the clusters: by the head's group, else the base's.
fn cluster(pairing: &mut Pairing, base: &Side, head: &Side) {
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let mut next = 0;
    for (in_base, in_head) in &pairing.pairs {
        let number = match head.group_of(*in_head).or_else(|| base.group_of(*in_base)) {
            Some(group) => *numbers.entry(group).or_insert_with(|| {
                next += 1;
                next - 1
            }),
            None => {
                next += 1;
                next - 1
            }
        };
        pairing.clusters.push(number);
    }
    pairing.cluster_count = (!numbers.is_empty() && (next as usize) < pairing.pairs.len()
        || next == 1 && !numbers.is_empty())
    .then_some(u64::from(next));
}
