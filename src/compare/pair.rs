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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::testing::side;

    /// Pairs as ids, then what is left on either side.
    fn check(base: &[(&str, u64)], head: &[(&str, u64)], pairs: &[&str], left: [&[(&str, bool)]; 2]) {
        let (base, head) = (side(base), side(head));
        let found = pair(&base, &head);
        let ids: Vec<&str> = found.pairs.iter().map(|(_, at)| head.cases[*at].id.as_str()).collect();
        assert_eq!(ids, pairs);
        for (b, h) in &found.pairs {
            assert_eq!(base.cases[*b].digest, head.cases[*h].digest);
        }
        let names = |side: &Side, list: &[Unmatched]| {
            list.iter().map(|u| (side.cases[u.case].id.to_string(), u.other_content)).collect::<Vec<_>>()
        };
        let wanted = left.map(|list| list.iter().map(|(id, other)| ((*id).to_owned(), *other)).collect::<Vec<_>>());
        assert_eq!([names(&base, &found.base_only), names(&head, &found.head_only)], wanted);
    }

    #[test]
    fn cases_meet_by_id_and_content_in_whatever_order() {
        check(&[("a", 1), ("b", 2)], &[("a", 1), ("b", 2)], &["a", "b"], [&[], &[]]);
        check(&[("a", 1), ("b", 2), ("c", 3)], &[("c", 3), ("a", 1)], &["c", "a"], [&[("b", false)], &[]]);
        // The same id with other texts is another case.
        check(&[("a", 1), ("b", 2)], &[("a", 9), ("b", 2)], &["b"], [&[("a", true)], &[("a", true)]]);
        // The same texts under another id are another case as well.
        check(&[("a", 1)], &[("b", 1)], &[], [&[("a", false)], &[("b", false)]]);
        check(&[], &[("a", 1)], &[], [&[], &[("a", false)]]);
        // An id that comes twice is paired by content, once each.
        check(&[("a", 1), ("a", 2)], &[("a", 2), ("a", 1), ("a", 1)], &["a", "a"], [&[], &[("a", true)]]);
    }

    #[test]
    fn groups_make_clusters_only_where_cases_share_them() {
        let mut base = side(&[("a", 1), ("b", 2), ("c", 3)]);
        let mut head = base.clone();
        let count = |base: &Side, head: &Side| pair(base, head).cluster_count;
        assert_eq!(count(&base, &head), None);
        head.groups = vec!["x".to_owned(), "y".to_owned()];
        for (case, group) in head.cases.iter_mut().zip([Some(0), Some(0), Some(1)]) {
            case.group = group;
        }
        assert_eq!(count(&base, &head), Some(2));
        // Known on one side only, they count all the same.
        assert_eq!(count(&head, &base), Some(2));
        base = head.clone();
        for case in &mut head.cases {
            case.group = Some(0);
        }
        assert_eq!(count(&base, &head), Some(1));
        head.groups = ["x", "y", "z"].map(str::to_owned).into();
        for (place, case) in head.cases.iter_mut().enumerate() {
            case.group = Some(place as u32);
        }
        assert_eq!(count(&base, &head), None, "each case is a group of its own");
    }
}
