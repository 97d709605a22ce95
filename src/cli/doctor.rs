//! x
#[derive(Debug, clap::Parser)] pub(super) struct Args {}
pub(super) fn exec(_a: &Args, _c: &super::Context) -> anyhow::Result<super::Exit> { Ok(super::Exit::Success) }
