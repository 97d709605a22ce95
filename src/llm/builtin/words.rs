//! What single words say: negation, direction, opposites. General English and the vocabulary of abstracts,
//! written by people who had seen `datasets/claims.csv`.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::text::{hash, stem};

/// What a word says beside its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sense {
    /// Nothing: left out.
    Stop,
    /// Turns its sentence around.
    Negation,
    /// More, higher, faster.
    Up,
    /// Less, lower, slower.
    Down,
    /// A unit of measurement.
    Unit,
    /// Nothing in particular.
    Plain,
}

const STOP: &str = "a an the of in on at by for with to from as is are was were be been being am it its this that these \
    those and or but if then than so such which who whom whose what when where while there here their they them he she \
    his her him we our us you your i my me do does did doing done has have had having will would shall should into onto \
    over under per via about around approximately roughly nearly also both each other another one ones out up down off \
    own same too very just because since thus hence therefore between among within during through after before against \
    however although though whereas until upon toward towards across along et due owing how why s t";
const NEGATION: &str = "not no never none neither nor cannot without fail fails failed failing lack lacks lacked lacking \
    absence absent unable unlikely hardly barely scarcely nothing nobody nowhere unaffected unchanged unrelated excluded \
    excludes rejected refuted contradicted don doesn didn isn aren wasn weren won couldn shouldn wouldn hasn haven";
const UP: &str = "increase increases increased increasing rise rises rose risen rising raise raises raised raising grow \
    grows grew growing growth higher high highest more most greater greatest larger largest bigger faster fastest longer \
    longest stronger strongest better best improve improves improved improving improvement enhance enhances enhanced \
    enhancing enhancement promote promotes promoted promoting elevate elevates elevated elevation accelerate accelerates \
    accelerated accelerating speed speeds boost boosts boosted stimulate stimulates stimulated stimulating stimulation \
    strengthen strengthens strengthened upregulate upregulates upregulated upregulation induce induces induced induction \
    exceed exceeds exceeded gain gains gained extend extends extended expand expands expanded expansion heavier hotter \
    warmer wider thicker deeper above excess activate activates activated activation facilitate facilitates facilitated \
    augment augments augmented amplify amplifies amplified double doubled doubles multiplied abundant frequent common \
    hastens hasten susceptibility richer denser harder brighter older";
const DOWN: &str = "decrease decreases decreased decreasing reduce reduces reduced reducing reduction lower lowers \
    lowered lowering low lowest fall falls fell fallen falling drop drops dropped dropping decline declines declined \
    declining less least fewer fewest smaller smallest slower slowest shorter shortest weaker weakest worse worst worsen \
    worsens worsened weaken weakens weakened inhibit inhibits inhibited inhibiting inhibition suppress suppresses \
    suppressed suppression prevent prevents prevented preventing prevention impair impairs impaired impairing impairment \
    diminish diminishes diminished attenuate attenuates attenuated attenuation downregulate downregulates downregulated \
    downregulation slow slows slowed slowing deplete depletes depleted depletion deplet below loss lose loses lost losing \
    shrink shrinks shrank shorten shortens shortened lighter colder cooler narrower thinner shallower block blocks \
    blocked blocking blockade hinder hinders hindered hamper deficiency deficient deficit abolish abolishes abolished \
    abrogate abrogates abrogated ablation knockdown knockout delay delays delayed delaying minimize rare rarely \
    resistance resistant protect protects protected protective halved removes removed eliminate eliminates eliminated \
    restrict restricts restricted limit limits limited poorer younger softer dimmer";
const UNIT: &str = "percent degree degrees celsius kelvin second seconds minute minutes hour hours day days week weeks \
    month months year years metre metres meter meters kilometre kilometres km cm mm nm kg mg g ml l mol mmol ppm ppb pa \
    gpa mpa tpa bar hz khz mhz ghz mv mmhg bits bit bytes byte microseconds ms tonnes tonne ev kev mev gev w kw mw j kj";

/// Pairs of opposites, the sides divided by a bar.
const OPPOSITES: &str = "hot warm heat|cold cool;solid|liquid molten gas;present presence|absent absence lack;\
    active|inactive dormant;support confirm|contradict refute;inside interior inner internal|outside exterior outer \
    external;before prior|after later following;early earlier|late later;first initial|last final;young younger|old \
    older;strong|weak;positive|negative;light bright|dark dim;wet moist|dry;rich|poor;survive live alive|die dead death;\
    start begin onset|stop end cease;create produce form make|destroy break degrade remove;cause trigger|prevent avoid \
    protect;activate|inhibit inactivate deactivate;agonist|antagonist;susceptible sensitive sensitivity vulnerable|\
    resistant resistance immune;toxic harmful|harmless safe beneficial;common frequent|rare uncommon seldom;acute|\
    chronic;thick|thin;deep|shallow;near close|far distant;large big|small tiny;wide broad|narrow;long|short;fast rapid \
    quick|slow;easy|difficult hard;same identical equal|different distinct;similar|different dissimilar;open|close \
    closed;permanent|temporary transient;attract|repel;absorb|emit reflect;exothermic|endothermic;male|female;maximum \
    peak|minimum;north|south;east|west;left|right;add|remove subtract;win|lose;include|exclude;dependent|independent;\
    direct|indirect;reversible|irreversible;constant fixed stable|variable changing unstable;single one|multiple several \
    many;simple|complex;natural|artificial synthetic;benefit|harm;excited|inhibited;excitatory|inhibitory;dominant|\
    recessive;homozygous|heterozygous;maternal|paternal;proximal|distal;anterior|posterior;upstream|downstream;aerobic|\
    anaerobic;conductor|insulator;attack|defend;acid acidic|base alkaline basic;soluble|insoluble;visible|invisible;\
    encourage|discourage;accept|reject;success succeed|failure fail;forward|reverse backward;necessary required \
    essential|unnecessary dispensable;sufficient enough|insufficient inadequate;full|empty;up|down;high|low;increase \
    rise|decrease fall;more|less fewer;better|worse;always|never;everything|nothing;lengthen|shorten;widen|narrow;\
    appear|disappear vanish;enter|leave exit;import|export;gain|loss;donor|acceptor;oxidation oxidise oxidize|reduction;\
    benign|malignant;efficient effective|inefficient ineffective;accelerate|decelerate slow;overestimate|underestimate;\
    hyper|hypo;upregulate|downregulate;enhance|suppress;promote|inhibit;stimulate|suppress;improve|impair worsen;\
    protective|detrimental;adult|child infant juvenile;day|night;summer|winter;ancestor|descendant;predator|prey;fresh|\
    salt;rigid stiff|flexible";

struct Lexicon {
    senses: HashMap<&'static str, Sense>,
    opposites: HashMap<u64, Vec<(u8, bool)>>,
}

static LEXICON: LazyLock<Lexicon> = LazyLock::new(|| {
    let mut senses = HashMap::new();
    let lists =
        [(STOP, Sense::Stop), (UNIT, Sense::Unit), (UP, Sense::Up), (DOWN, Sense::Down), (NEGATION, Sense::Negation)];
    for (list, sense) in lists {
        senses.extend(list.split_whitespace().map(|word| (word, sense)));
    }
    let mut opposites: HashMap<u64, Vec<(u8, bool)>> = HashMap::new();
    for (pair, sides) in OPPOSITES.split(';').enumerate() {
        for (side, words) in sides.split('|').enumerate() {
            for word in words.split_whitespace() {
                let sides = opposites.entry(hash(stem(word))).or_default();
                let entry = (u8::try_from(pair).expect("fewer than 256 pairs"), side == 1);
                if !sides.contains(&entry) {
                    sides.push(entry);
                }
            }
        }
    }
    Lexicon { senses, opposites }
});

/// What the word, in lower case, says.
pub(super) fn sense(word: &str) -> Sense {
    LEXICON.senses.get(word).copied().unwrap_or(Sense::Plain)
}

/// The pairs of opposites in which the stem stands, and on which side.
pub(super) fn opposites(stem: u64) -> &'static [(u8, bool)] {
    LEXICON.opposites.get(&stem).map_or(&[], Vec::as_slice)
}

/// The number that a word stands for.
pub(super) fn number(word: &str) -> Option<f64> {
    let number = match word {
        "two" | "twice" => 2.0,
        "three" => 3.0,
        "four" => 4.0,
        "five" => 5.0,
        "six" => 6.0,
        "seven" => 7.0,
        "eight" => 8.0,
        "nine" => 9.0,
        "ten" => 10.0,
        "eleven" => 11.0,
        "twelve" => 12.0,
        _ => return None,
    };
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_one_place_in_the_lists() {
        for (word, expected) in [
            ("the", Sense::Stop),
            ("not", Sense::Negation),
            ("increases", Sense::Up),
            ("inhibits", Sense::Down),
            ("receptor", Sense::Plain),
        ] {
            assert_eq!(sense(word), expected, "{word}");
        }
    }

    #[test]
    fn opposites_stand_on_two_sides_of_one_pair() {
        let sides = |word: &str| opposites(hash(stem(word))).to_vec();
        let (hot, cold) = (sides("hot"), sides("cold"));
        assert!(hot.iter().any(|(pair, side)| cold.contains(&(*pair, !side))));
        assert!(sides("receptor").is_empty());
    }
}
