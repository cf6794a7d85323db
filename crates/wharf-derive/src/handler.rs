//! `#[handler]`: the function as it is, and beside it one check for each thing that a handler is made
//! of, at the place where it is written.
//!
//! Nothing of it is run. What it refuses is no handler; what it accepts, `on` may still refuse for
//! what two arguments are to each other.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{
    Error, FnArg, GenericArgument, GenericParam, Ident, ItemFn, PathArguments, Result, ReturnType,
    Token, Type,
};

const ARGUMENTS_MAX: usize = 8;

const GENERIC: &str = "what types a generic function is used with is not known here: name them, or take `#[handler]` away";

/// What stands in the attribute: nothing, or `state = Type`.
pub(crate) struct Settings(Option<Type>);

impl Parse for Settings {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        if input.is_empty() {
            return Ok(Self(None));
        }
        let name: Ident = input.parse()?;
        if name != "state" {
            return Err(Error::new(name.span(), "expected `state = Type`"));
        }
        input.parse::<Token![=]>()?;
        Ok(Self(Some(input.parse()?)))
    }
}

/// The function with its checks; with what is wrong instead when it cannot be checked.
pub(crate) fn check(settings: Settings, function: &ItemFn) -> TokenStream {
    let checks = checks(settings, function).unwrap_or_else(Error::into_compile_error);
    quote! { #function #checks }
}

fn checks(settings: Settings, function: &ItemFn) -> Result<TokenStream> {
    let types = arguments(function)?;
    let state = match settings.0 {
        Some(state) => state.into_token_stream(),
        None => state_of(&types)?,
    };
    let (last, parts) = types.split_last().ok_or_else(|| {
        let text = "a handler takes at least the payload: `Msg<T>`, `Batch<T>`, `Raw` or `Blob`";
        Error::new(function.sig.paren_token.span.join(), text)
    })?;
    let parts = parts.iter().map(|part| {
        quote_spanned! { part.span() => let _ = <#part as ::wharf::FromParts<#state>>::from_parts; }
    });
    let last = quote_spanned! { last.span() =>
        let _ = <#last as ::wharf::FromIncoming<#state>>::from_incoming;
    };
    let output = match &function.sig.output {
        ReturnType::Type(_, output) if !mentions_impl(output.to_token_stream()) => {
            quote_spanned! { output.span() => let _ = <#output as ::wharf::IntoOutcome>::into_outcome; }
        }
        _ => TokenStream::new(),
    };
    let name = &function.sig.ident;
    let values: Vec<_> = (0..types.len())
        .map(|nth| format_ident!("argument_{nth}"))
        .collect();
    let future = quote_spanned! { name.span() => future(#name(#(#values),*)); };
    Ok(quote! {
        const _: fn(#(#types),*) = |#(#values),*| {
            fn future(_: impl ::core::future::Future + ::core::marker::Send + 'static) {}
            #(#parts)*
            #last
            #output
            #future
        };
    })
}

/// The types of the arguments, if the function is one that can be checked.
fn arguments(function: &ItemFn) -> Result<Vec<&Type>> {
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        let text = "a handler is an `async fn`";
        return Err(Error::new(signature.fn_token.span(), text));
    }
    let is_generic = |param: &&GenericParam| !matches!(param, GenericParam::Lifetime(_));
    if let Some(param) = signature.generics.params.iter().find(is_generic) {
        return Err(Error::new(param.span(), GENERIC));
    }
    let types = signature.inputs.iter().map(argument);
    let types = types.collect::<Result<Vec<_>>>()?;
    match types.get(ARGUMENTS_MAX) {
        None => Ok(types),
        Some(first) => {
            let text = format!("a handler has at most {ARGUMENTS_MAX} arguments");
            Err(Error::new(first.span(), text))
        }
    }
}

fn argument(argument: &FnArg) -> Result<&Type> {
    match argument {
        FnArg::Receiver(receiver) => {
            let text = "a handler has no `self`: it gets what it needs as `State<T>`";
            Err(Error::new(receiver.span(), text))
        }
        FnArg::Typed(typed) if mentions_impl(typed.ty.to_token_stream()) => {
            Err(Error::new(typed.ty.span(), GENERIC))
        }
        FnArg::Typed(typed) => Ok(&typed.ty),
    }
}

fn mentions_impl(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        proc_macro2::TokenTree::Group(group) => mentions_impl(group.stream()),
        proc_macro2::TokenTree::Ident(ident) => ident == "impl",
        _ => false,
    })
}

/// The router's state, as far as the arguments tell: what stands in the only `State<T>`.
fn state_of(types: &[&Type]) -> Result<TokenStream> {
    let mut found: Option<&Type> = None;
    for state in types.iter().filter_map(|one| in_state(one)) {
        if found.is_some_and(|before| before != state) {
            let text = "a router has one state, and these are parts of it: name it with `#[handler(state = Type)]`";
            return Err(Error::new(state.span(), text));
        }
        found = Some(state);
    }
    Ok(found.map_or_else(|| quote! { () }, ToTokens::to_token_stream))
}

fn in_state(one: &Type) -> Option<&Type> {
    let Type::Path(path) = one else { return None };
    let last = path
        .path
        .segments
        .last()
        .filter(|last| last.ident == "State")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match arguments.args.first()? {
        GenericArgument::Type(state) => Some(state),
        _ => None,
    }
}
