//! Repetitions that give nothing back, such as `a++`, as ones that could but never would.

use regex_syntax::ast::{Ast, RepetitionKind};
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Look};

/// `pattern`, which `parsed` is, without possessive repetitions.
///
/// A possessive repetition of one character followed by something is the greedy one where what follows can always match
/// nothing, or cannot begin with that character: then there is nothing to give back for.
///
/// # Errors
/// A repetition of which that does not hold.
pub fn without(pattern: &str, parsed: &Ast) -> Result<String, String> {
    let mut changes: Vec<(usize, usize, &str)> = Vec::new();
    let alternatives: &[Ast] = match parsed {
        Ast::Alternation(list) => &list.asts,
        one => std::slice::from_ref(one),
    };
    for alternative in alternatives {
        let parts: &[Ast] = match alternative {
            Ast::Concat(list) => &list.asts,
            one => std::slice::from_ref(one),
        };
        for (i, part) in parts.iter().enumerate() {
            let Some(held) = Held::of(part, pattern) else {
                refuse_inside(part, pattern)?;
                continue;
            };
            changes.push((held.plus, held.plus + 1, ""));
            if let Some(place) = held.ends_a_line(&parts[i + 1..], pattern) {
                changes.push((place.0, place.1, r"\z"));
            } else if !held.gives_nothing_back(&parts[i + 1..], pattern) {
                return Err(refused(&pattern[part.span().start.offset..part.span().end.offset]));
            }
        }
    }
    changes.sort_unstable();
    changes.dedup();
    let (mut out, mut at) = (String::new(), 0);
    for (start, end, text) in changes {
        out.push_str(&pattern[at..start]);
        out.push_str(text);
        at = end;
    }
    Ok(out + &pattern[at..])
}

fn refused(text: &str) -> String {
    format!("{text} holds on to what it took, which is supported only where what follows could not use it")
}

/// A possessive repetition of one character.
struct Held {
    /// Where the second plus stands.
    plus: usize,
    /// The characters that are repeated.
    characters: ClassUnicode,
}

impl Held {
    /// None if `part` is none.
    fn of(part: &Ast, pattern: &str) -> Option<Held> {
        let plus = possessive(part)?;
        let Ast::Repetition(outer) = part else { return None };
        let Ast::Repetition(inner) = &*outer.ast else { return None };
        let span = inner.ast.span();
        let repeated = hir(&pattern[span.start.offset..span.end.offset])?;
        if matches!(repeated.kind(), HirKind::Literal(text) if std::str::from_utf8(&text.0).ok()?.chars().count() > 1) {
            return None;
        }
        let characters = class(&repeated)?;
        Some(Held { plus, characters })
    }

    /// Whether `rest` never makes it give back.
    fn gives_nothing_back(&self, rest: &[Ast], pattern: &str) -> bool {
        let hirs: Option<Vec<Hir>> = rest.iter().map(|part| hir(&plain(part, pattern))).collect();
        let Some(hirs) = hirs else { return false };
        let places = |hir: &Hir| !hir.properties().look_set().is_empty();
        let empty = |hir: &Hir| hir.properties().minimum_len() == Some(0);
        if hirs.iter().all(|hir| empty(hir) && !places(hir)) {
            return true;
        }
        for hir in &hirs {
            // The end of a line is before a line feed, or where nothing is to be repeated.
            let begins = match hir.kind() {
                HirKind::Look(Look::End | Look::EndLF) => Some(ClassUnicode::new([ClassUnicodeRange::new('\n', '\n')])),
                _ if places(hir) => None,
                HirKind::Repetition(repetition) => class(&repetition.sub),
                _ => class(hir),
            };
            let Some(mut begins) = begins else { return false };
            begins.intersect(&self.characters);
            if !begins.ranges().is_empty() {
                return false;
            }
            if !empty(hir) || places(hir) {
                return true;
            }
        }
        false
    }

    /// Where an end of the line stands that comes next and last; after line feeds are taken with all else, that is the
    /// end of the text.
    fn ends_a_line(&self, rest: &[Ast], pattern: &str) -> Option<(usize, usize)> {
        let [last] = rest else { return None };
        let (start, end) = (last.span().start.offset, last.span().end.offset);
        let feeds = self.characters.ranges().iter().any(|range| range.start() <= '\n' && '\n' <= range.end());
        (&pattern[start..end] == "(?m:$)" && feeds).then_some((start, end))
    }
}

/// Where the second plus of a possessive repetition stands.
fn possessive(part: &Ast) -> Option<usize> {
    let Ast::Repetition(outer) = part else { return None };
    let Ast::Repetition(inner) = &*outer.ast else { return None };
    let uncounted = !matches!(inner.op.kind, RepetitionKind::Range(_));
    (outer.op.kind == RepetitionKind::OneOrMore && uncounted).then_some(outer.op.span.start.offset)
}

/// Finds one in a place where what follows is not all known.
fn refuse_inside(part: &Ast, pattern: &str) -> Result<(), String> {
    if possessive(part).is_some() {
        return Err(refused(&pattern[part.span().start.offset..part.span().end.offset]));
    }
    match part {
        Ast::Repetition(repetition) => refuse_inside(&repetition.ast, pattern),
        Ast::Group(group) => refuse_inside(&group.ast, pattern),
        Ast::Alternation(list) => list.asts.iter().try_for_each(|part| refuse_inside(part, pattern)),
        Ast::Concat(list) => list.asts.iter().try_for_each(|part| refuse_inside(part, pattern)),
        _ => Ok(()),
    }
}

/// The text of a part; of a possessive repetition that of the greedy one.
fn plain(part: &Ast, pattern: &str) -> String {
    let span = part.span();
    let end = possessive(part).unwrap_or(span.end.offset);
    pattern[span.start.offset..end].to_owned()
}

fn hir(pattern: &str) -> Option<Hir> {
    regex_syntax::parse(pattern).ok()
}

/// The characters that what matches may begin with, of a class or a literal.
fn class(hir: &Hir) -> Option<ClassUnicode> {
    match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => Some(class.clone()),
        HirKind::Class(Class::Bytes(class)) => class.to_unicode_class(),
        HirKind::Literal(literal) => {
            let first = std::str::from_utf8(&literal.0).ok()?.chars().next()?;
            Some(ClassUnicode::new([ClassUnicodeRange::new(first, first)]))
        }
        _ => None,
    }
}
