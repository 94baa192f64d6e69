//! The function again, with its layers around its body, and a reader beside it for each breaker and policy of its own.
//!
//! A macro on a function does not see what the function stands in, so that `reader()` might have to be
//! `Self::reader()`. Hence neither calls the other: a policy is only a value, which each makes for itself, and a breaker
//! is found by its place in the source (`attribute::circuit_breaker`). Both are kept in a `static` where they are made,
//! so that a call costs one load, and so that the instances of a generic function share them.
//!
//! Local names are hygienic: the body sees none of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::visit_mut::VisitMut;
use syn::{Attribute, Expr, FnArg, Ident, ItemFn, Meta, Pat, PatType, Receiver, ReceiverKind, ReturnType, Stmt, Type};

use crate::parse::Kind;
use crate::validate::{Checked, Config, Layer, Setting, Source};

/// The function with `layers` around it, the first outermost, and its readers.
pub(crate) fn expand(mut function: ItemFn, layers: &[Layer]) -> TokenStream {
    let asynchronous = function.sig.asyncness.is_some();
    let returned = returned(&function);
    let made: Vec<_> = layers.iter().map(|layer| made(layer, &function.sig.ident)).collect();
    let readers: TokenStream = layers.iter().zip(&made).map(|(layer, made)| reader(layer, made, &function)).collect();
    let locals: TokenStream = layers.iter().zip(&made).map(|(layer, made)| locals(layer, made, &function)).collect();
    let timer = (asynchronous && layers.iter().any(Layer::may_wait)).then(|| check_timer(&function));

    let retried = layers.iter().any(|layer| layer.kind() == Kind::Retry);
    let receiver = function.sig.receiver().cloned();
    let arguments = if retried { take_patterns(&mut function) } else { Vec::new() };
    let stack = Stack { layers, arguments, returned, receiver };
    // Without its braces, which a body of one line would be told to be without.
    let statements = &function.block.stmts;
    let body = quote!(#(#statements)*);
    let body = if asynchronous { stack.awaited(&body) } else { stack.called(&body) };

    function.block.stmts = vec![Stmt::Expr(Expr::Verbatim(quote!(#timer #locals #body)), None)];
    quote!(#function #readers)
}

/// The type that the function returns, as it can be written inside of it: `impl Trait` is inferred there.
fn returned(function: &ItemFn) -> Type {
    struct Erase;
    impl VisitMut for Erase {
        fn visit_type_mut(&mut self, ty: &mut Type) {
            if let Type::ImplTrait(_) = ty {
                *ty = Type::Infer(syn::parse_quote!(_));
            } else {
                syn::visit_mut::visit_type_mut(self, ty);
            }
        }
    }
    let mut returned = match &function.sig.output {
        ReturnType::Type(_, returned) => (**returned).clone(),
        ReturnType::Default => syn::parse_quote!(()),
    };
    Erase.visit_type_mut(&mut returned);
    returned
}

// ----- breakers and policies -----

/// An expression for the breaker or the policy: a `&'static` one that is made on the first call, or what was given.
fn made(layer: &Layer, function: &Ident) -> TokenStream {
    match &layer.source {
        Source::Given(_, given) => given.to_token_stream(),
        Source::Policy(config) => {
            let config = configuration(config, &quote!(RetryConfig));
            in_static(&quote!(::service_mesh::RetryPolicy), &quote!(::service_mesh::RetryPolicy::new(#config)))
        }
        Source::Breaker { name, config } => {
            /// Tells apart what stands at one place: functions of one name that a single macro call writes.
            static NUMBER: AtomicUsize = AtomicUsize::new(0);
            let tag = format!("::{function} #{}", NUMBER.fetch_add(1, Ordering::Relaxed));
            let config = configuration(config, &quote!(CircuitBreakerConfig));
            let make = quote! {
                ::service_mesh::attribute::circuit_breaker(
                    ::core::concat!(
                        ::core::module_path!(), #tag, " ", ::core::file!(), ":", ::core::line!(), ":", ::core::column!()
                    ),
                    || ::service_mesh::CircuitBreaker::with_config(#name, #config),
                )
            };
            in_static(&quote!(::service_mesh::CircuitBreaker), &make)
        }
    }
}

fn in_static(ty: &TokenStream, make: &TokenStream) -> TokenStream {
    quote! {{
        static __SERVICE_MESH: ::std::sync::OnceLock<#ty> = ::std::sync::OnceLock::new();
        __SERVICE_MESH.get_or_init(|| #make)
    }}
}

fn configuration(config: &Config, ty: &TokenStream) -> TokenStream {
    match config {
        Config::Given(given) => given.to_token_stream(),
        Config::Fields(settings) if settings.is_empty() => {
            quote!(<::service_mesh::#ty as ::core::default::Default>::default())
        }
        Config::Fields(settings) => built(ty, settings),
    }
}

fn built(ty: &TokenStream, settings: &[Setting]) -> TokenStream {
    let methods = settings.iter().map(|setting| {
        let method = Ident::new(setting.field.method, Span::call_site());
        let value = match &setting.value {
            Checked::Count(count) => quote!(#count),
            Checked::Number(number) => quote!(#number),
            Checked::Switch(on) => quote!(#on),
            Checked::Seconds(duration) => {
                let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
                quote!(::core::time::Duration::new(#seconds, #nanos))
            }
            Checked::Jitter(variant) => {
                let variant = Ident::new(variant, Span::call_site());
                quote!(::service_mesh::Jitter::#variant)
            }
            Checked::Window(window, settings) => {
                let ty = Ident::new(window.type_name(), Span::call_site());
                built(&ty.to_token_stream(), settings)
            }
        };
        quote!(.#method(#value))
    });
    quote! {
        ::service_mesh::#ty::builder()#(#methods)*.build().expect("every field was checked when it was compiled")
    }
}

/// `NAME_circuit_breaker()` or `NAME_retry_policy()`, beside the function and as visible.
fn reader(layer: &Layer, made: &TokenStream, function: &ItemFn) -> TokenStream {
    let name = &function.sig.ident;
    let (suffix, ty, what) = match &layer.source {
        Source::Given(..) => return TokenStream::new(),
        Source::Breaker { .. } => ("circuit_breaker", quote!(CircuitBreaker), "circuit breaker"),
        Source::Policy(_) => ("retry_policy", quote!(RetryPolicy), "retry policy"),
    };
    let doc = format!("The {what} of `{name}`.");
    let reader = format_ident!("{}_{}", name, suffix, span = name.span());
    let vis = &function.vis;
    let attributes = function.attrs.iter().filter(|attribute| decides_existence(attribute) || is_doc_hidden(attribute));
    quote! {
        #(#attributes)*
        #[doc = #doc]
        #[must_use]
        #[allow(dead_code)]
        #vis fn #reader() -> &'static ::service_mesh::#ty {
            #made
        }
    }
}

fn decides_existence(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr")
}

fn is_doc_hidden(attribute: &Attribute) -> bool {
    match &attribute.meta {
        Meta::List(list) => list.path.is_ident("doc") && list.tokens.to_string() == "hidden",
        _ => false,
    }
}

// ----- what stands before the body -----

/// The breaker or policy and its classifier, as references, which closures copy.
fn locals(layer: &Layer, made: &TokenStream, function: &ItemFn) -> TokenStream {
    let (subject, judge) = names(layer.kind());
    let ty = match layer.kind() {
        Kind::CircuitBreaker => quote!(::service_mesh::CircuitBreaker),
        Kind::Retry => quote!(::service_mesh::RetryPolicy),
    };
    let subject = match &layer.source {
        Source::Given(_, given) => {
            let borrowed = borrowed(given);
            if reaches_what_changes(given, function) {
                quote! {
                    #[allow(unused_parens)]
                    let #subject = &<#ty as ::core::clone::Clone>::clone(#borrowed);
                }
            } else {
                quote! {
                    #[allow(unused_parens)]
                    let #subject: &#ty = #borrowed;
                }
            }
        }
        Source::Breaker { .. } | Source::Policy(_) => quote!(let #subject: &'static #ty = #made;),
    };
    let classify = layer.classify.as_ref().map_or_else(|| quote!(&::service_mesh::EveryError), borrowed);
    quote! {
        #subject
        #[allow(unused_parens)]
        let #judge = #classify;
    }
}

/// What was given, borrowed: a place is not moved out of, and a mistake is told there.
fn borrowed(given: &Expr) -> TokenStream {
    quote_spanned!(given.span()=> &(#given))
}

fn names(kind: Kind) -> (Ident, Ident) {
    let (subject, judge) = match kind {
        Kind::CircuitBreaker => ("breaker", "judge_of_breaker"),
        Kind::Retry => ("policy", "judge_of_policy"),
    };
    (local(subject), local(judge))
}

fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// Whether what was given is reached through something that the body may change or take: then a handle of its own is
/// taken, which costs a reference count, and else it is borrowed, which costs nothing.
fn reaches_what_changes(given: &Expr, function: &ItemFn) -> bool {
    let mut changing = Vec::new();
    for input in &function.sig.inputs {
        match input {
            FnArg::Receiver(Receiver { kind: ReceiverKind::Reference(_, _, None), .. }) => {}
            FnArg::Receiver(_) => changing.push("self".into()),
            FnArg::Typed(PatType { ty, .. }) if Passed::by(ty) == Passed::Shared => {}
            FnArg::Typed(PatType { pat, .. }) => identifiers(pat.to_token_stream(), &mut changing),
        }
    }
    let mut mentioned = Vec::new();
    identifiers(given.to_token_stream(), &mut mentioned);
    mentioned.iter().any(|name| changing.contains(name))
}

fn identifiers(tokens: TokenStream, found: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => found.push(ident.to_string()),
            TokenTree::Group(group) => identifiers(group.stream(), found),
            _ => {}
        }
    }
}

/// A policy that the attribute makes waits with tokio's timer, or not at all.
fn check_timer(function: &ItemFn) -> TokenStream {
    let span = function.sig.asyncness.map_or_else(Span::call_site, |token| token.span);
    quote_spanned! {span=>
        const _: () = ::core::assert!(
            ::service_mesh::attribute::HAS_ASYNC_TIMER,
            "`#[with_retry]` on an `async fn` needs a timer to wait between attempts: turn on the feature `tokio` of \
             service-mesh, or give a policy that has one: `policy = …`, with `Environment::with_async_sleep`"
        );
    }
}

// ----- the arguments of a retry -----

/// How an argument is passed, as far as its type shows it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passed {
    Shared,
    Exclusive,
    Owned,
}

impl Passed {
    fn by(ty: &Type) -> Self {
        match ty {
            Type::Reference(reference) if reference.mutability.is_some() => Self::Exclusive,
            Type::Reference(_) => Self::Shared,
            Type::Paren(inner) => Self::by(&inner.elem),
            Type::Group(inner) => Self::by(&inner.elem),
            _ => Self::Owned,
        }
    }
}

/// An argument that each attempt gets anew.
struct Argument {
    attributes: Vec<Attribute>,
    name: Ident,
    pattern: Pat,
    passed: Passed,
    ty: Span,
}

impl Argument {
    /// What an attempt gets of it.
    fn value(&self) -> TokenStream {
        let name = &self.name;
        match self.passed {
            Passed::Shared => quote!(#name),
            Passed::Exclusive => quote!(&mut *#name),
            Passed::Owned => quote_spanned!(self.ty=> ::service_mesh::attribute::cloned_for_each_attempt(&#name)),
        }
    }

    /// It, under the pattern that it is written with.
    fn bound_to(&self, value: &TokenStream) -> TokenStream {
        let Self { attributes, pattern, .. } = self;
        quote!(#(#attributes)* let #pattern = #value;)
    }

    /// It, under its own name, for an attempt to take.
    fn taken_out(&self) -> TokenStream {
        let Self { attributes, name, .. } = self;
        let value = self.value();
        quote!(#(#attributes)* let #name = #value;)
    }
}

/// Gives every argument a name of its own, so that each attempt can bind its pattern. A shared reference with a name
/// stays as it is, and what is not bound is not needed.
fn take_patterns(function: &mut ItemFn) -> Vec<Argument> {
    let mut taken = Vec::new();
    for (index, input) in function.sig.inputs.iter_mut().enumerate() {
        let FnArg::Typed(PatType { attrs, pat, ty, .. }) = input else { continue };
        let passed = Passed::by(ty);
        let name = match &**pat {
            Pat::Wild(_) => continue,
            Pat::Ident(name) if passed == Passed::Shared && name.mutability.is_none() && name.by_ref.is_none() => {
                continue;
            }
            // A name that says it is not used is not used by us either.
            Pat::Ident(name) if name.subpat.is_none() && !name.ident.to_string().starts_with('_') => name.ident.clone(),
            _ => local(&format!("argument_{index}")),
        };
        let pattern = std::mem::replace(&mut **pat, syn::parse_quote!(#name));
        let attributes = attrs.iter().filter(|attribute| decides_existence(attribute)).cloned().collect();
        taken.push(Argument { attributes, name, pattern, passed, ty: ty.span() });
    }
    taken
}

// ----- the layers -----

/// What is put around a body.
struct Stack<'a> {
    layers: &'a [Layer],
    arguments: Vec<Argument>,
    returned: Type,
    receiver: Option<Receiver>,
}

impl Stack<'_> {
    /// The layers as closures, from the body outwards. The outermost takes what the function owns; those inside borrow,
    /// for a retry calls them again.
    fn called(&self, body: &TokenStream) -> TokenStream {
        let returned = &self.returned;
        self.layers.iter().enumerate().rev().fold(body.clone(), |inner, (depth, layer)| {
            let by_move = (depth == 0).then(|| quote!(move));
            let (subject, judge) = names(layer.kind());
            match layer.kind() {
                Kind::CircuitBreaker => {
                    let refused = refused(depth);
                    quote_spanned! {returned.span()=>
                        ::service_mesh::attribute::guard(#subject, #judge, #refused, #by_move || -> #returned { #inner })
                    }
                }
                Kind::Retry => {
                    let arguments: TokenStream =
                        self.arguments.iter().map(|argument| argument.bound_to(&argument.value())).collect();
                    let retry = quote_spanned! {returned.span()=>
                        ::service_mesh::attribute::retry(#subject, #judge, #by_move || -> #returned { #arguments #inner })
                    };
                    self.with_refused(depth, &retry)
                }
            }
        })
    }

    /// The layers as futures, from the body outwards. A retry awaits its attempts in a loop, so that they may borrow
    /// what the function owns; an attempt takes its arguments, so that it can be sent wherever they can.
    fn awaited(&self, body: &TokenStream) -> TokenStream {
        let returned = &self.returned;
        let typed = quote_spanned! {returned.span()=>
            if false {
                return ::service_mesh::attribute::typed::<#returned>();
            }
        };
        let body = {
            let arguments = self.arguments.iter().map(|argument| argument.bound_to(&argument.name.to_token_stream()));
            // Captured as it was given, and not as a shared reference where the body does not change it.
            let receiver = match &self.receiver {
                Some(Receiver { kind: ReceiverKind::Reference(_, _, Some(_)), self_token, .. })
                    if self.is_retried() =>
                {
                    Some(quote!(let _ = &mut *#self_token;))
                }
                _ => None,
            };
            quote!(#typed #receiver #(#arguments)* #body)
        };
        let (body, _) =
            self.layers.iter().enumerate().rev().fold((body, false), |(inner, complete), (depth, layer)| {
                let by_move = (depth == 0).then(|| quote!(move));
                let typed = complete.then(|| typed.clone());
                let (subject, judge) = names(layer.kind());
                let layered = match layer.kind() {
                    Kind::CircuitBreaker => {
                        let refused = refused(depth);
                        quote_spanned! {returned.span()=>
                            ::service_mesh::attribute::guard_async(
                                #subject, #judge, #refused, async #by_move { #typed #inner },
                            ).await
                        }
                    }
                    Kind::Retry => {
                        let (attempts, wait) = (local("attempts"), local("wait"));
                        // One span for all, so that what is wrong with the type is told where the type is.
                        let span = returned.span().resolved_at(Span::mixed_site());
                        let result = Ident::new("result", span);
                        let arguments: TokenStream = self.arguments.iter().map(Argument::taken_out).collect();
                        let attempt = if complete { inner } else { quote!(async { #inner }.await) };
                        let retry = quote_spanned! {span=>
                            let mut #attempts = ::service_mesh::attribute::Attempts::of(#subject);
                            loop {
                                // What the attempt returned and what it was given end before the wait.
                                let #wait = {
                                    #arguments
                                    let #result: #returned = #attempt;
                                    match #attempts.again(#judge, &#result) {
                                        ::core::option::Option::Some(#wait) => #wait,
                                        ::core::option::Option::None => break #result,
                                    }
                                };
                                #wait.over().await;
                            }
                        };
                        self.with_refused(depth, &retry)
                    }
                };
                (layered, true)
            });
        body
    }

    fn is_retried(&self) -> bool {
        self.layers.iter().any(|layer| layer.kind() == Kind::Retry)
    }

    /// A retry over a breaker must know whether that refused.
    fn with_refused(&self, depth: usize, retry: &TokenStream) -> TokenStream {
        if self.layers.get(depth + 1).is_none() {
            return retry.clone();
        }
        let (refused, (_, judge)) = (local("refused"), names(Kind::Retry));
        quote! {{
            let #refused = &::service_mesh::attribute::Refused::new();
            let #judge = &::service_mesh::attribute::UnlessRefused::new(#refused, #judge);
            #retry
        }}
    }
}

/// Where a breaker tells the retry over it of a refusal.
fn refused(depth: usize) -> TokenStream {
    if depth == 0 {
        return quote!(::core::option::Option::None);
    }
    let refused = local("refused");
    quote!(::core::option::Option::Some(#refused))
}
