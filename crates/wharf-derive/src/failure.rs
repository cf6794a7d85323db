//! `#[derive(Failure)]`.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Data, DeriveInput, Error, Fields, Ident, LitStr, Result, Token, Variant};

const CHOICES: &str = "#[failure(retry)], #[failure(dead_letter)], #[failure(declared)], #[failure(skip)] or \
                       #[failure(conflict)]";

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let body = match &input.data {
        Data::Struct(_) => disposition(&input.attrs, &input.ident)?,
        Data::Enum(data) => {
            let arms = data.variants.iter().map(arm).collect::<Result<Vec<_>>>()?;
            quote! { match self { #(#arms)* } }
        }
        Data::Union(_) => return Err(Error::new(input.ident.span(), "a union is no error")),
    };
    let name = &input.ident;
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        impl #generics ::wharf::Failure for #name #arguments #bounds {
            fn disposition(&self) -> ::wharf::Disposition {
                #body
            }
        }
    })
}

fn arm(variant: &Variant) -> Result<TokenStream> {
    let name = &variant.ident;
    let disposition = disposition(&variant.attrs, name)?;
    let pattern = match &variant.fields {
        Fields::Unit => quote! { Self::#name },
        Fields::Named(_) => quote! { Self::#name { .. } },
        Fields::Unnamed(_) => quote! { Self::#name(..) },
    };
    Ok(quote! { #pattern => #disposition, })
}

fn disposition(attributes: &[Attribute], name: &Ident) -> Result<TokenStream> {
    let mut found = None;
    for attribute in attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("failure"))
    {
        attribute.parse_nested_meta(|meta| {
            let one = if meta.path.is_ident("retry") && meta.input.peek(Token![=]) {
                backoff(&meta.value()?.parse()?)?
            } else if meta.path.is_ident("retry") {
                quote! { ::wharf::Disposition::Retry }
            } else if meta.path.is_ident("dead_letter") {
                quote! { ::wharf::Disposition::DeadLetter }
            } else if meta.path.is_ident("declared") {
                let name = name.to_string();
                quote! { ::wharf::Disposition::Declared(::std::borrow::Cow::Borrowed(#name)) }
            } else if meta.path.is_ident("skip") {
                quote! { ::wharf::Disposition::Skip }
            } else if meta.path.is_ident("conflict") {
                quote! { ::wharf::Disposition::Conflict }
            } else {
                return Err(meta.error(format!("expected {CHOICES}")));
            };
            if found.replace(one).is_some() {
                return Err(meta.error("only one of them"));
            }
            Ok(())
        })?;
    }
    let text = || format!("`{name}` does not say what is to be done about it: {CHOICES}");
    found.ok_or_else(|| Error::new(name.span(), text()))
}

/// Reads `200ms x2, max 30s, 8 times`.
fn backoff(text: &LitStr) -> Result<TokenStream> {
    let wrong = || {
        Error::new(
            text.span(),
            "expected delays as in \"200ms x2, max 30s, 8 times\"",
        )
    };
    let value = text.value();
    let mut parts = value.split(',').map(str::trim);
    let first = parts.next().ok_or_else(wrong)?;
    let (first, factor) = first.split_once(" x").unwrap_or((first, "1"));
    let first = duration(first.trim()).ok_or_else(wrong)?;
    let factor: f64 = factor
        .trim()
        .parse()
        .ok()
        .filter(|factor| *factor >= 1.0)
        .ok_or_else(wrong)?;
    let (mut max, mut times) = (Duration::from_secs(30).max(first), None);
    for part in parts {
        if let Some(limit) = part.strip_prefix("max ") {
            max = duration(limit.trim()).ok_or_else(wrong)?;
        } else if let Some(count) = part.strip_suffix(" times") {
            times = Some(count.trim().parse::<u32>().ok().ok_or_else(wrong)?);
        } else {
            return Err(wrong());
        }
    }
    let times = times.ok_or_else(wrong)?;
    let (first, max) = (millis(first)?, millis(max)?);
    Ok(quote! {
        ::wharf::Disposition::RetryWith(::wharf::Backoff {
            first: ::core::time::Duration::from_millis(#first),
            factor: #factor,
            max: ::core::time::Duration::from_millis(#max),
            times: #times,
        })
    })
}

fn millis(duration: Duration) -> Result<u64> {
    let millis = u64::try_from(duration.as_millis()).ok();
    millis.ok_or_else(|| Error::new(proc_macro2::Span::call_site(), "the delay is too long"))
}

/// Reads `200ms`, `30s`, `5m` or `1h`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let millis = match text[digits..].trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(millis)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_read_with_their_units() {
        assert_eq!(duration("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(duration("2m"), Some(Duration::from_secs(120)));
        for text in ["", "5", "s", "5 days", "-1s", "99999999999999999999s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
