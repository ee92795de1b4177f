//! pyenv
