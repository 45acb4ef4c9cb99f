//! Looks at Rust's tokens.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The tokens without items under `#[cfg(test)]`.
pub(crate) fn without_tests(stream: TokenStream) -> Vec<TokenTree> {
    let mut kept: Vec<TokenTree> = Vec::new();
    let mut tokens = stream.into_iter();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) if is_cfg_test(&group) => {
                // With the # before it.
                kept.pop();
                for skipped in tokens.by_ref() {
                    let ends = match &skipped {
                        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                        other => is(other, ";"),
                    };
                    if ends {
                        break;
                    }
                }
            }
            TokenTree::Group(group) => {
                let inner = without_tests(group.stream()).into_iter().collect();
                kept.push(Group::new(group.delimiter(), inner).into());
            }
            other => kept.push(other),
        }
    }
    kept
}

fn is_cfg_test(group: &Group) -> bool {
    group.delimiter() == Delimiter::Bracket && group.to_string().replace(' ', "") == "[cfg(test)]"
}

pub(crate) fn literals(tokens: &[TokenTree], found: &mut BTreeSet<String>) {
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let attribute = at > 0 && is(&tokens[at - 1], "#");
                if !attribute {
                    literals(&inner, found);
                }
            }
            TokenTree::Literal(literal) => {
                found.insert(literal.to_string());
            }
            _ => {}
        }
    }
}

pub(crate) fn is(token: &TokenTree, text: &str) -> bool {
    match token {
        TokenTree::Group(_) | TokenTree::Literal(_) => false,
        other => other.to_string() == text,
    }
}

pub(crate) fn inside(token: Option<&TokenTree>, delimiter: Delimiter) -> Option<Vec<TokenTree>> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => {
            Some(group.stream().into_iter().collect())
        }
        _ => None,
    }
}

/// What commas divide.
pub(crate) fn arguments(tokens: &[TokenTree]) -> Vec<&[TokenTree]> {
    let parts = tokens.split(|token| is(token, ","));
    parts.filter(|part| !part.is_empty()).collect()
}
