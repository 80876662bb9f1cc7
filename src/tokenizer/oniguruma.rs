//! Expressions of a `tokenizer.json`, which transformers reads by Oniguruma, in the words of the engine that runs here.
//!
//! Both read most of what vocabularies cut text by alike. What they read differently is translated: `^` and `$`, which
//! stand at every line there; `(?m)`, by which a dot is any character there; `\w` and the classes of POSIX, which hold
//! other characters there; and repetitions that give nothing back (`a++`), where what follows could not use what they
//! hold. The rest is refused by name.

use super::possessive;
use regex_syntax::ast::{
    self, AssertionKind, Ast, ClassAsciiKind, ClassPerlKind, ClassSet, ClassSetBinaryOp, ClassSetBinaryOpKind,
    ClassSetItem, ClassUnicode, ClassUnicodeKind, Flag, Flags, FlagsItemKind, GroupKind, HexLiteralKind, Literal,
    LiteralKind, RepetitionKind, RepetitionRange, Span,
};

/// The one look-ahead that is understood, as published vocabularies have it.
pub const LAST_SPACES: &str = r"\s+(?!\S)";

/// Letters that by themselves are several to Oniguruma where case does not count: `ss` is ß there.
const JOINED: [&str; 5] = ["ss", "ff", "fi", "fl", "st"];

/// What `\w` is: letters, marks, digits, connecting punctuation, and these numbers of Latin-1 alone.
const WORD: &str = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}²³¹¼½¾";
/// What it is inside of brackets, and what `[[:word:]]` is.
const WORD_IN_BRACKETS: &str = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}";
/// Classes of POSIX, which there are of all characters, in brackets and as properties.
const POSIX: [(&str, &str); 14] = [
    ("alnum", r"\p{Alphabetic}\p{Nd}"),
    ("alpha", r"\p{Alphabetic}"),
    ("ascii", r"\x00-\x7f"),
    ("blank", r"\p{Zs}\t"),
    ("cntrl", r"\p{Cc}"),
    ("digit", r"\p{Nd}"),
    ("graph", r"[^\p{White_Space}\p{Cc}\p{Cn}]"),
    ("lower", r"\p{Lowercase}"),
    ("print", r"[^\p{Cc}\p{Cn}\p{Zl}\p{Zp}]"),
    ("punct", r"\p{P}\p{S}"),
    ("space", r"\p{White_Space}"),
    ("upper", r"\p{Uppercase}"),
    ("word", WORD_IN_BRACKETS),
    ("xdigit", r"0-9A-Fa-f"),
];
/// Properties that are not what brackets of the same name are, the last outside of brackets alone.
const PROPERTIES: [(&str, &str); 2] = [("punct", r"\p{P}"), ("word", WORD)];

/// `pattern` for the engine that runs here.
///
/// # Errors
/// What of it is not supported, in words that follow the expression.
pub fn translate(pattern: &str) -> Result<String, String> {
    let Some((before, after)) = pattern.split_once(LAST_SPACES) else { return side(pattern) };
    // Each side is whole by itself, so that the look-ahead is an alternative of its own, inside of nothing.
    let alone = || format!("{LAST_SPACES} is supported as an alternative of its own alone");
    let before = match before.strip_suffix('|') {
        Some(before) => side(before)? + "|",
        None if before.is_empty() => String::new(),
        None => return Err(alone()),
    };
    let after = match after.strip_prefix('|') {
        Some(after) => format!("|{}", side(after)?),
        None if after.is_empty() => String::new(),
        None => return Err(alone()),
    };
    if before.starts_with("(?i") && !before.starts_with("(?i:") {
        return Err(format!("(?i) for all of an expression that has {LAST_SPACES} is not supported"));
    }
    Ok(format!("{before}{LAST_SPACES}{after}"))
}

/// The alternatives on one side of the look-ahead.
fn side(pattern: &str) -> Result<String, String> {
    let parsed = ast::parse::Parser::new().parse(pattern).map_err(|e| match e.kind() {
        ast::ErrorKind::UnsupportedLookAround | ast::ErrorKind::UnsupportedBackreference => {
            format!("of what needs backtracking only {LAST_SPACES} is supported")
        }
        ast::ErrorKind::FlagUnrecognized => "this option or kind of group is not supported".to_owned(),
        kind => kind.to_string(),
    })?;
    let mut translator = Translator { pattern, changes: Vec::new(), caseless: 0, joined: String::new() };
    translator.top(&parsed)?;
    let changed = translator.apply();
    let again = ast::parse::Parser::new().parse(&changed).map_err(|e| e.kind().to_string())?;
    possessive::without(&changed, &again)
}

/// Collects what is to stand in place of parts of the pattern.
struct Translator<'p> {
    pattern: &'p str,
    changes: Vec<(Span, String)>,
    /// Groups around here in which case does not count.
    caseless: usize,
    /// Literals before this place.
    joined: String,
}

impl Translator<'_> {
    /// The pattern with the changes.
    fn apply(mut self) -> String {
        self.changes.sort_by_key(|(span, _)| span.start.offset);
        let (mut out, mut at) = (String::new(), 0);
        for (span, text) in &self.changes {
            out.push_str(&self.pattern[at..span.start.offset]);
            out.push_str(text);
            at = span.end.offset;
        }
        out + &self.pattern[at..]
    }

    fn change(&mut self, span: Span, text: impl Into<String>) {
        self.changes.push((span, text.into()));
    }

    fn text(&self, span: Span) -> &str {
        &self.pattern[span.start.offset..span.end.offset]
    }

    /// The whole, in which an option at the very beginning holds for all of it.
    fn top(&mut self, all: &Ast) -> Result<(), String> {
        let first = |part: &Ast| match part {
            Ast::Concat(list) => list.asts.first().is_some_and(|part| matches!(part, Ast::Flags(_))),
            Ast::Flags(_) => true,
            _ => false,
        };
        let leading = match all {
            Ast::Alternation(list) => list.asts.first().is_some_and(first),
            part => first(part),
        };
        let flags = match all {
            Ast::Alternation(list) => list.asts.first(),
            part => Some(part),
        };
        let flags = match flags {
            Some(Ast::Concat(list)) => list.asts.first(),
            part => part,
        };
        if let (true, Some(Ast::Flags(set))) = (leading, flags) {
            self.options(&set.flags)?;
        }
        self.part(all, leading)
    }

    /// One part; `leading` where options that it begins with are seen to.
    fn part(&mut self, part: &Ast, leading: bool) -> Result<(), String> {
        if !matches!(part, Ast::Literal(_)) {
            self.joined.clear();
        }
        match part {
            Ast::Empty(_) | Ast::Dot(_) => Ok(()),
            Ast::Flags(_) if leading => Ok(()),
            Ast::Flags(set) => Err(format!("the option {} in its middle is not supported", self.text(set.span))),
            Ast::Literal(literal) => self.literal(literal, false),
            Ast::Assertion(place) => self.place(place),
            Ast::ClassUnicode(class) => self.property(class, &PROPERTIES),
            Ast::ClassPerl(class) => {
                self.word(class, WORD);
                Ok(())
            }
            Ast::ClassBracketed(class) => self.set(&class.kind),
            Ast::Repetition(repetition) => self.repetition(repetition),
            Ast::Group(group) => self.group(group),
            Ast::Alternation(list) => list.asts.iter().enumerate().try_for_each(|(i, part)| {
                self.joined.clear();
                self.part(part, leading && i == 0)
            }),
            Ast::Concat(list) => {
                list.asts.iter().enumerate().try_for_each(|(i, part)| self.part(part, leading && i == 0))
            }
        }
    }

    fn group(&mut self, group: &ast::Group) -> Result<(), String> {
        let before = self.caseless;
        match &group.kind {
            GroupKind::CaptureName { starts_with_p: true, .. } => {
                return Err("(?P<..>) is not supported, as Oniguruma does not; write (?<..>) or (?:..)".to_owned());
            }
            GroupKind::NonCapturing(flags) => self.options(flags)?,
            _ => {}
        }
        self.part(&group.ast, false)?;
        self.caseless = before;
        Ok(())
    }

    /// Options: `i` means the same, and what is `m` there is `s` here.
    fn options(&mut self, flags: &Flags) -> Result<(), String> {
        let mut negated = false;
        for item in &flags.items {
            match item.kind {
                FlagsItemKind::Negation => negated = true,
                FlagsItemKind::Flag(Flag::CaseInsensitive) => self.caseless = usize::from(!negated),
                FlagsItemKind::Flag(Flag::MultiLine) => self.change(item.span, "s"),
                FlagsItemKind::Flag(_) => {
                    return Err(format!("the option {:?} is not supported", self.text(item.span)));
                }
            }
        }
        Ok(())
    }

    fn literal(&mut self, literal: &Literal, in_set: bool) -> Result<(), String> {
        let known = match &literal.kind {
            LiteralKind::Verbatim | LiteralKind::Meta | LiteralKind::Superfluous | LiteralKind::Special(_) => true,
            // One byte of a character there.
            LiteralKind::HexFixed(HexLiteralKind::X) => literal.c.is_ascii(),
            LiteralKind::HexFixed(kind) => *kind == HexLiteralKind::UnicodeShort,
            LiteralKind::HexBrace(kind) => *kind == HexLiteralKind::X,
            LiteralKind::Octal => false,
        };
        if !known {
            return Err(format!("{} is not supported; write the character, or \\x{{..}}", self.text(literal.span)));
        }
        if self.caseless > 0 {
            if !in_set {
                self.joined.push(literal.c.to_ascii_lowercase());
            }
            if !literal.c.is_ascii() || (!in_set && JOINED.iter().any(|pair| self.joined.ends_with(pair))) {
                let text = self.text(literal.span);
                return Err(format!(
                    "{text:?} where case does not count is not supported: it may be several letters, or part of another"
                ));
            }
        }
        Ok(())
    }

    fn place(&mut self, place: &ast::Assertion) -> Result<(), String> {
        match place.kind {
            AssertionKind::StartLine => self.change(place.span, "(?m:^)"),
            AssertionKind::EndLine => self.change(place.span, "(?m:$)"),
            AssertionKind::StartText | AssertionKind::EndText => {}
            _ => {
                let text = self.text(place.span);
                return Err(format!("{text} is not supported: of what needs backtracking only {LAST_SPACES} is"));
            }
        }
        Ok(())
    }

    fn repetition(&mut self, repetition: &ast::Repetition) -> Result<(), String> {
        let exactly = matches!(repetition.op.kind, RepetitionKind::Range(RepetitionRange::Exactly(_)));
        if exactly && !repetition.greedy {
            return Err(format!("{} is not supported: Oniguruma may take none", self.text(repetition.span)));
        }
        if let Ast::Repetition(inner) = &*repetition.ast {
            let held = repetition.op.kind == RepetitionKind::OneOrMore && repetition.greedy && inner.greedy;
            let counted = matches!(inner.op.kind, RepetitionKind::Range(_));
            if counted {
                // Repeats twice, where the engine here would hold on to what it took.
                self.change(Span::splat(inner.span.start), "(?:");
                self.part(&repetition.ast, false)?;
                self.change(Span::splat(inner.span.end), ")");
                return Ok(());
            }
            // `a++` holds on to what it took, which is seen to afterwards.
            if !held {
                let text = self.text(repetition.span);
                return Err(format!("{text} repeats twice, which is not supported; put a group around the first"));
            }
        }
        self.part(&repetition.ast, false)
    }

    /// `\w`: letters, marks, numbers of every kind, and connecting punctuation.
    fn word(&mut self, class: &ast::ClassPerl, set: &str) {
        if class.kind == ClassPerlKind::Word {
            self.change(class.span, bracketed(set, class.negated));
        }
    }

    /// `\p{..}`.
    fn property(&mut self, class: &ClassUnicode, own: &[(&str, &str)]) -> Result<(), String> {
        let ClassUnicodeKind::Named(name) = &class.kind else {
            return Err(format!("{} is not supported; write \\p{{NAME}}", self.text(class.span)));
        };
        let plain: String = name.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        if self.caseless > 0 {
            return Err(format!("{} where case does not count is not supported", self.text(class.span)));
        }
        if let Some((_, set)) = own.iter().chain(&POSIX).find(|(name, _)| *name == plain) {
            self.change(class.span, bracketed(set, class.negated));
        }
        Ok(())
    }

    fn set(&mut self, set: &ClassSet) -> Result<(), String> {
        match set {
            ClassSet::Item(item) => self.item(item),
            ClassSet::BinaryOp(ClassSetBinaryOp { kind: ClassSetBinaryOpKind::Intersection, lhs, rhs, .. }) => {
                self.set(lhs)?;
                self.set(rhs)
            }
            ClassSet::BinaryOp(other) => Err(format!(
                "[{}] is not supported, as Oniguruma reads other characters there; escape them",
                self.text(other.span)
            )),
        }
    }

    fn item(&mut self, item: &ClassSetItem) -> Result<(), String> {
        match item {
            ClassSetItem::Empty(_) => Ok(()),
            ClassSetItem::Literal(literal) => self.literal(literal, true),
            ClassSetItem::Range(range) => {
                self.literal(&range.start, true)?;
                self.literal(&range.end, true)
            }
            ClassSetItem::Ascii(class) => {
                let name = name_of(&class.kind);
                if let Some((_, set)) = POSIX.iter().find(|(known, _)| *known == name) {
                    self.change(class.span, bracketed(set, class.negated));
                }
                Ok(())
            }
            ClassSetItem::Unicode(class) => self.property(class, &PROPERTIES[..1]),
            ClassSetItem::Perl(class) => {
                self.word(class, WORD_IN_BRACKETS);
                Ok(())
            }
            ClassSetItem::Bracketed(class) => self.set(&class.kind),
            ClassSetItem::Union(list) => list.items.iter().try_for_each(|item| self.item(item)),
        }
    }
}

/// A class by what stands in its brackets.
fn bracketed(set: &str, negated: bool) -> String {
    format!("[{}{set}]", if negated { "^" } else { "" })
}

fn name_of(kind: &ClassAsciiKind) -> &'static str {
    match kind {
        ClassAsciiKind::Alnum => "alnum",
        ClassAsciiKind::Alpha => "alpha",
        ClassAsciiKind::Ascii => "ascii",
        ClassAsciiKind::Blank => "blank",
        ClassAsciiKind::Cntrl => "cntrl",
        ClassAsciiKind::Digit => "digit",
        ClassAsciiKind::Graph => "graph",
        ClassAsciiKind::Lower => "lower",
        ClassAsciiKind::Print => "print",
        ClassAsciiKind::Punct => "punct",
        ClassAsciiKind::Space => "space",
        ClassAsciiKind::Upper => "upper",
        ClassAsciiKind::Word => "word",
        ClassAsciiKind::Xdigit => "xdigit",
    }
}

#[cfg(test)]
mod golden;
