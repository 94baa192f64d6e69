//! From tokens to a function and the attributes on it; what they say is not judged here.
//!
//! Our attributes that stand below the first are taken off the function and read with it. Left on it, each would wrap
//! what the one above it had made, and the upper would be the inner. And a retry must know of a breaker under it.

use proc_macro2::{Span, TokenStream};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, Ident, ItemFn, LitStr, Meta, Stmt, Token, parse_quote, token};

/// Which attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    CircuitBreaker,
    Retry,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CircuitBreaker => "with_circuit_breaker",
            Self::Retry => "with_retry",
        }
    }

    fn of(attribute: &Attribute) -> Option<Self> {
        let name = &attribute.path().segments.last()?.ident;
        [Self::CircuitBreaker, Self::Retry].into_iter().find(|kind| name == kind.name())
    }
}

/// One attribute as it is written.
pub(crate) struct Use {
    pub(crate) kind: Kind,
    pub(crate) arguments: TokenStream,
    /// The attribute itself, for what is missing in it.
    pub(crate) span: Span,
}

/// Takes our attributes off a function, in the order in which they stand.
///
/// In the place of each, the body gets one that expands to nothing: so its import is used, and its name is resolved.
pub(crate) fn take_uses(function: &mut ItemFn) -> Vec<Use> {
    let taken: Vec<_> = function.attrs.extract_if(.., |attribute| Kind::of(attribute).is_some()).collect();
    let mut uses = Vec::new();
    for attribute in taken {
        let path = attribute.path();
        let mark: Stmt = parse_quote!(#[#path(#MARK)] const _: () = (););
        if let (Some(kind), Some(name)) = (Kind::of(&attribute), path.segments.last()) {
            let span = name.ident.span();
            let arguments = match attribute.meta {
                Meta::List(list) => list.tokens,
                _ => TokenStream::new(),
            };
            uses.push(Use { kind, arguments, span });
        }
        function.block.stmts.insert(0, mark);
    }
    uses
}

/// The argument of an attribute that was taken off already. Nobody writes it by mistake.
const MARK: &str = "taken off by the attribute above";

/// Whether these are the arguments of an attribute that was taken off already.
pub(crate) fn is_mark(arguments: TokenStream) -> bool {
    syn::parse2::<LitStr>(arguments).is_ok_and(|literal| literal.value() == MARK)
}

/// A function with a body; a method is one too.
pub(crate) fn function(kind: Kind, item: TokenStream) -> syn::Result<ItemFn> {
    syn::parse2(item).map_err(|error| {
        let message = format!("`#[{}]` goes on a function or a method that has a body", kind.name());
        syn::Error::new(error.span(), message)
    })
}

/// What stands between the parentheses: a name, where there is one, and then `key = value` or `key(…)`.
pub(crate) struct Arguments {
    pub(crate) name: Option<LitStr>,
    pub(crate) entries: Vec<Entry>,
}

pub(crate) struct Entry {
    pub(crate) key: Ident,
    pub(crate) value: Value,
}

pub(crate) enum Value {
    Is(Expr),
    Group(TokenStream),
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let name = if input.peek(LitStr) { Some(input.parse()?) } else { None };
        if name.is_some() && !input.is_empty() {
            input.parse::<Token![,]>()?;
        }
        Ok(Self { name, entries: entries(input)? })
    }
}

/// The fields of a window.
pub(crate) struct Fields(pub(crate) Vec<Entry>);

impl Parse for Fields {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        entries(input).map(Self)
    }
}

fn entries(input: ParseStream<'_>) -> syn::Result<Vec<Entry>> {
    Ok(Punctuated::<Entry, Token![,]>::parse_terminated(input)?.into_iter().collect())
}

impl Parse for Entry {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(syn::Lit) {
            let literal: syn::Lit = input.parse()?;
            let message = match &literal {
                syn::Lit::Str(_) => "a name goes first, and alone; whatever else stands here is written `key = value`",
                _ => "whose value is this? Fields are written `key = value`",
            };
            return Err(syn::Error::new(literal.span(), message));
        }
        let key = input.call(Ident::parse_any)?;
        if input.peek(token::Paren) {
            let content;
            syn::parenthesized!(content in input);
            return Ok(Self { key, value: Value::Group(content.parse()?) });
        }
        if !input.peek(Token![=]) {
            return Err(syn::Error::new(key.span(), format!("`{key}` has no value: fields are written `key = value`")));
        }
        input.parse::<Token![=]>()?;
        if input.is_empty() || input.peek(Token![,]) {
            return Err(syn::Error::new(key.span(), format!("the value of `{key}` is missing")));
        }
        Ok(Self { key, value: Value::Is(input.parse()?) })
    }
}
