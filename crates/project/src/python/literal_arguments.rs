//! Parses the literal arguments of the decorators and inputs of `headwater`.

use ruff_python_ast::{Arguments, Expr};
use ruff_text_size::{Ranged, TextRange};

use super::literal::Literal;
use crate::source_location::SourceText;
use crate::{Error, Location, Result, unknown_name_hints};

/// The literal arguments of one call.
pub(super) struct LiteralArguments<'a> {
    call: &'a str,
    source: &'a SourceText<'a>,
    values: Vec<NamedArgument<'a>>,
}

/// One argument: name, value and location.
struct NamedArgument<'a> {
    name: &'a str,
    literal: Literal,
    range: TextRange,
    /// The ranges of the items, if the value is a list.
    items: Vec<TextRange>,
}

impl<'a> LiteralArguments<'a> {
    /// Reads the arguments of a call to `call`. Accepts only the arguments `names`. The first
    /// `positional` of these names may also be given by position.
    pub fn read(
        source: &'a SourceText<'a>,
        call: &'a str,
        arguments: Option<&Arguments>,
        names: &[&'a str],
        positional: usize,
    ) -> Result<LiteralArguments<'a>> {
        let mut values = LiteralArguments { call, source, values: Vec::new() };
        let Some(arguments) = arguments else { return Ok(values) };
        for (position, argument) in arguments.args.iter().enumerate() {
            let Some(name) = names[..positional].get(position) else {
                let message = format!("`{call}` has too many positional arguments");
                let hint = format!("Name the arguments: `{}`.", names.join("=…, ") + "=…");
                return Err(Error::invalid(values.at(argument), message, hint));
            };
            values.add(name, argument)?;
        }
        for keyword in &arguments.keywords {
            let given = keyword.arg.as_ref().map_or("**", |name| name.as_str());
            let Some(name) = names.iter().find(|name| **name == given) else {
                let message = format!("`{call}` has no argument `{given}`");
                let hint = unknown_name_hints::hint(given, names.iter().copied(), "arguments");
                return Err(Error::invalid(values.at(keyword), message, hint));
            };
            values.add(name, &keyword.value)?;
        }
        Ok(values)
    }

    fn add(&mut self, name: &'a str, expression: &Expr) -> Result<()> {
        let literal = Literal::read(expression).map_err(|other| {
            let message = format!("`{name}` of `{}` is not a literal", self.call);
            let hint = "Write the value itself: files are read without being run.";
            Error::invalid(self.at(&other), message, hint)
        })?;
        if self.find(name).is_some() {
            let message = format!("`{name}` of `{}` is given twice", self.call);
            return Err(Error::invalid(self.at(expression), message, "Leave out one of the two."));
        }
        if literal != Literal::None {
            let elements: &[Expr] = match expression {
                Expr::List(list) => &list.elts,
                Expr::Tuple(tuple) => &tuple.elts,
                _ => &[],
            };
            let items = elements.iter().map(Ranged::range).collect();
            self.values.push(NamedArgument { name, literal, range: expression.range(), items });
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&NamedArgument<'a>> {
        self.values.iter().find(|value| value.name == name)
    }

    fn at(&self, node: &impl Ranged) -> Location {
        self.source.at(node.range().start().to_usize())
    }

    /// Returns the value of an argument, parsed by `read`; `form` is the expected form for the
    /// hint.
    pub fn get<T>(
        &self,
        name: &str,
        read: impl Fn(&Literal) -> Option<T>,
        form: &str,
    ) -> Result<Option<T>> {
        let Some(value) = self.find(name) else { return Ok(None) };
        read(&value.literal).map(Some).ok_or_else(|| {
            let text = &self.source.text[value.range];
            let message = format!("`{name}` of `{}` does not accept the value `{text}`", self.call);
            Error::invalid(self.at(&value.range), message, format!("Write the value as {form}."))
        })
    }

    /// Returns the value of an argument whose value must not appear in errors.
    pub fn secret<T>(
        &self,
        name: &str,
        read: impl Fn(&Literal) -> Option<T>,
        form: &str,
    ) -> Result<Option<T>> {
        let Some(value) = self.find(name) else { return Ok(None) };
        read(&value.literal).map(Some).ok_or_else(|| {
            let message = format!("the value of `{name}` of `{}` is invalid", self.call);
            Error::invalid(self.at(&value.range), message, format!("Write the value as {form}."))
        })
    }

    /// Returns a text argument.
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        let read = |literal: &Literal| match literal {
            Literal::Text(text) => Some(text.clone()),
            _ => None,
        };
        self.get(name, read, &format!("`{name}=\"…\"`"))
    }

    /// Returns an argument that is a list of texts.
    pub fn texts(&self, name: &str) -> Result<Option<Vec<String>>> {
        self.get(name, Literal::as_texts, &format!("`{name}=[\"…\", \"…\"]`"))
    }

    /// Returns the items of an argument that is a list, each with its range in the source; `form`
    /// is the expected form for the hint.
    pub fn items(&self, name: &str, form: &str) -> Result<Vec<(&Literal, TextRange)>> {
        self.get(name, |literal| matches!(literal, Literal::List(_)).then_some(()), form)?;
        let Some(NamedArgument { literal: Literal::List(literals), items, .. }) = self.find(name)
        else {
            return Ok(Vec::new());
        };
        Ok(literals.iter().zip(items.iter().copied()).collect())
    }

    /// Returns a Boolean argument.
    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        let read = |literal: &Literal| match literal {
            Literal::Bool(flag) => Some(*flag),
            _ => None,
        };
        self.get(name, read, &format!("`{name}=True`"))
    }

    /// Returns the location of an argument, or `otherwise` if the argument is absent.
    pub fn location_of(&self, name: &str, otherwise: &Location) -> Location {
        self.find(name).map_or_else(|| otherwise.clone(), |value| self.at(&value.range))
    }
}
