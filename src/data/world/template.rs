//! Sentences with slots: `"{x} went home to the {x.home!}."`

/// Who or what a slot speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The person who acts.
    X,
    /// Another person.
    Y,
    /// The thing.
    T,
    /// The place that is known.
    P,
    /// The place that is to be chosen.
    Q,
    /// The weather.
    W,
    /// The time of the day.
    D,
    /// A mood.
    M,
}

/// Which word or words of the role a slot takes; names the class of answers too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the field of the same name in the lexicon, or a pronoun")]
pub enum Field {
    Person,
    Work,
    Task,
    Home,
    Food,
    Wear,
    Animal,
    Pet,
    She,
    Her,
    Him,
    Thing,
    Look,
    Use,
    Place,
    Sight,
    Weather,
    Sign,
    Time,
    Mood,
}

/// Why an answer is bound to be what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    /// It follows from facts that hold in every story.
    Fact,
    /// It follows from what this story has told.
    Story,
}

/// One piece of a sentence.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Words as they are.
    Text(String),
    /// Words that depend on who or what fills the role.
    Slot {
        /// Who or what.
        role: Role,
        /// Which of its words.
        field: Field,
        /// With a capital letter.
        capital: bool,
        /// Marked as an answer.
        probe: Option<ProbeKind>,
    },
}

/// One way to tell a sentence.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(pub Vec<Piece>);

impl Template {
    /// Reads a sentence with slots in braces.
    pub fn parse(text: &str) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let close = rest.find('}').ok_or_else(|| format!("{text}: a brace is not closed"))?;
            if open > 0 {
                pieces.push(Piece::Text(rest[..open].into()));
            }
            let slot = rest.get(open + 1..close).unwrap_or_default();
            pieces.push(parse_slot(slot).ok_or_else(|| format!("{text}: {{{slot}}} is not a slot"))?);
            rest = &rest[close + 1..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Ok(Template(pieces))
    }
}

/// `ROLE`, `ROLE.field`, either with `!` or `?` at its end.
fn parse_slot(slot: &str) -> Option<Piece> {
    let (body, probe) = match slot.as_bytes().last()? {
        b'!' => (&slot[..slot.len() - 1], Some(ProbeKind::Fact)),
        b'?' => (&slot[..slot.len() - 1], Some(ProbeKind::Story)),
        _ => (slot, None),
    };
    let (name, field) = body.split_once('.').unwrap_or((body, ""));
    let (role, fields): (Role, &[(&str, Field)]) = match name {
        "x" => (Role::X, PERSON),
        "y" => (Role::Y, PERSON),
        "t" => (Role::T, &[("", Field::Thing), ("look", Field::Look), ("use", Field::Use)]),
        "p" => (Role::P, PLACE),
        "q" => (Role::Q, PLACE),
        "w" => (Role::W, &[("", Field::Weather), ("sign", Field::Sign)]),
        "d" => (Role::D, &[("", Field::Time)]),
        "m" => (Role::M, &[("", Field::Mood)]),
        _ => return None,
    };
    let capital = field.starts_with(char::is_uppercase);
    let field = fields.iter().find(|(known, _)| *known == field.to_lowercase())?.1;
    Some(Piece::Slot { role, field, capital, probe })
}

const PERSON: &[(&str, Field)] = &[
    ("", Field::Person),
    ("work", Field::Work),
    ("task", Field::Task),
    ("home", Field::Home),
    ("food", Field::Food),
    ("wear", Field::Wear),
    ("animal", Field::Animal),
    ("pet", Field::Pet),
    ("she", Field::She),
    ("her", Field::Her),
    ("him", Field::Him),
];
const PLACE: &[(&str, Field)] = &[("", Field::Place), ("sight", Field::Sight)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_carry_role_field_capital_and_probe() {
        let template = Template::parse("{x.Her} {x.home!}, {p?}").unwrap();
        let slot = |role, field, capital, probe| Piece::Slot { role, field, capital, probe };
        assert_eq!(
            template.0,
            [
                slot(Role::X, Field::Her, true, None),
                Piece::Text(" ".into()),
                slot(Role::X, Field::Home, false, Some(ProbeKind::Fact)),
                Piece::Text(", ".into()),
                slot(Role::P, Field::Place, false, Some(ProbeKind::Story)),
            ]
        );
        for bad in ["{", "}{", "{z}", "{t.home}", "{}", "{x.}x{"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
