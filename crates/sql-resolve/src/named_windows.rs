//! Named windows: replaces each name by the window's definition.
//!
//! DataFusion replaces names only in the select list. In QUALIFY or ORDER BY it treats `sum(x) OVER
//! w` as an aggregate over all rows.
//!
//! Upstream: no issue found (November 2026)

use headwater_sql::expression::window;
use headwater_sql::table_name::span_start;
use headwater_sql::{Error, Result};
use sqlparser::ast::{Ident, NamedWindowDefinition, NamedWindowExpr, WindowSpec, WindowType};

use crate::Resolver;

impl Resolver<'_> {
    /// Resolves the WINDOW clause. A window may be based on an earlier window.
    pub(crate) fn windows(&mut self, definitions: Vec<NamedWindowDefinition>) -> Result<()> {
        for NamedWindowDefinition(name, definition) in definitions {
            let spec = match definition {
                NamedWindowExpr::NamedWindow(other) => self.named(&other)?,
                NamedWindowExpr::WindowSpec(mut spec) => {
                    self.spec(&mut spec)?;
                    spec
                }
            };
            if let Some(scope) = self.scopes.innermost() {
                scope.windows.push((name.value, spec));
            }
        }
        Ok(())
    }

    /// Resolves the window of a function.
    pub(crate) fn over(&mut self, over: &mut WindowType) -> Result<()> {
        match over {
            WindowType::WindowSpec(spec) => self.spec(spec),
            WindowType::NamedWindow(name) => {
                *over = WindowType::WindowSpec(self.named(name)?);
                Ok(())
            }
        }
    }

    fn named(&self, name: &Ident) -> Result<WindowSpec> {
        self.scopes.window(&name.value, span_start(name.span))
    }

    fn spec(&mut self, spec: &mut WindowSpec) -> Result<()> {
        window(spec, &mut |node| self.node(node))?;
        let Some(name) = spec.window_name.take() else { return Ok(()) };
        let base = self.named(&name)?;
        let again = |what| Error::Invalid {
            message: format!("the window `{}` already has {what}", name.value),
            hint: None,
            position: span_start(name.span),
        };
        if !spec.partition_by.is_empty() {
            return Err(again("its PARTITION BY"));
        }
        if !spec.order_by.is_empty() && !base.order_by.is_empty() {
            return Err(again("an ORDER BY"));
        }
        if base.window_frame.is_some() {
            return Err(again("a frame"));
        }
        spec.partition_by = base.partition_by;
        if spec.order_by.is_empty() {
            spec.order_by = base.order_by;
        }
        Ok(())
    }
}
