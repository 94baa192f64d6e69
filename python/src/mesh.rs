//! `Mesh`: the services of a policy file, each with its proxy.
//!
//! The core reads the file, makes the proxies and applies reloads. Here each proxy gets its Python object when it is first
//! asked for, and after a reload the objects are told what the file has changed.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use pyo3::exceptions::{PyKeyError, PyOSError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyList, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};
use service_mesh::{Event, MeshBuilder, PolicyChanges, PolicyError};

use crate::errors::config_error;
use crate::field::number;
use crate::filled::Filled;
use crate::guarded::CallOut;
use crate::lock::lock;
use crate::log::Log;
use crate::service_proxy::{Listeners, ServiceProxy};
use crate::testing::{ManualClock, environment};

const MODULE: &str = "codomyrmex.service_mesh.mesh";

/// The services of a policy file, which Rust and the sidecar read too: a mapping of their names to their proxies.
///
/// ```python
/// mesh = Mesh.from_file("mesh.toml")
/// mesh["payments"].call(lambda instance: print(instance.address))
/// mesh.reload()  # on a signal, on a timer, when the file has changed
/// ```
///
/// `mesh["payments"]` is always the same `ServiceProxy`, which follows reloads by itself; a name that is not there is a
/// `KeyError`. A reload applies what has changed and keeps live state. A file with a mistake changes nothing; `PolicyError`
/// tells every mistake with its line and column.
#[pyclass(frozen, subclass, dict, weakref, module = "codomyrmex.service_mesh.mesh")]
pub(crate) struct Mesh {
    filled: Filled,
    core: service_mesh::Mesh,
    path: Option<PathBuf>,
    listeners: Arc<Listeners>,
    clock: Option<Py<ManualClock>>,
    /// The objects of the proxies that somebody has asked for.
    proxies: Mutex<BTreeMap<String, Py<ServiceProxy>>>,
}

#[pymethods]
impl Mesh {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        Err(PyTypeError::new_err("a Mesh is made by Mesh.from_file or Mesh.from_str"))
    }

    /// Reads a policy file, and makes a proxy for each of its services.
    ///
    /// Raises `OSError` if it cannot be read, and `PolicyError` with every mistake in it.
    #[classmethod]
    #[pyo3(signature = (path, *, listeners = None, max_ejected_ratio = None, clock = None))]
    fn from_file(
        class: &Bound<'_, PyType>,
        path: PathBuf,
        listeners: Option<&Bound<'_, PyAny>>,
        max_ejected_ratio: Option<&Bound<'_, PyAny>>,
        clock: Option<&Bound<'_, ManualClock>>,
    ) -> PyResult<Self> {
        let py = class.py();
        let (builder, listeners) = builder(py, listeners, max_ejected_ratio, clock)?;
        let core = py.detach(|| builder.read_path(&path)).map_err(|error| policy_error(py, &error))?;
        Ok(Self::of(core, Some(path), listeners, clock))
    }

    /// The same from the text itself.
    #[classmethod]
    #[pyo3(signature = (text, *, listeners = None, max_ejected_ratio = None, clock = None))]
    fn from_str(
        class: &Bound<'_, PyType>,
        text: &str,
        listeners: Option<&Bound<'_, PyAny>>,
        max_ejected_ratio: Option<&Bound<'_, PyAny>>,
        clock: Option<&Bound<'_, ManualClock>>,
    ) -> PyResult<Self> {
        let py = class.py();
        let (builder, listeners) = builder(py, listeners, max_ejected_ratio, clock)?;
        let core = builder.read_text(text).map_err(|error| policy_error(py, &error))?;
        Ok(Self::of(core, None, listeners, clock))
    }

    /// Reads the file again, or `text` in its place, and applies what has changed: states of circuits, counters and calls
    /// under way stay. Returns what has changed.
    ///
    /// Raises like `from_file`, and has changed nothing then.
    #[pyo3(signature = (text = None))]
    fn reload<'py>(&self, py: Python<'py>, text: Option<&str>) -> PyResult<Bound<'py, PyAny>> {
        let changes = match (text, &self.path) {
            (Some(text), _) => self.core.reload(text),
            (None, Some(path)) => py.detach(|| self.core.reload_path(path)),
            (None, None) => {
                return Err(PyTypeError::new_err("a Mesh that was made from a text is reloaded with a text"));
            }
        };
        let changes = changes.map_err(|error| policy_error(py, &error))?;
        self.follow(py, &changes)?;
        changes_of(py, &changes)
    }

    /// The proxy of a service, always the same object. It follows reloads by itself.
    fn __getitem__(&self, py: Python<'_>, name: &str) -> PyResult<Py<ServiceProxy>> {
        if let Some(known) = self.proxies().get(name) {
            return Ok(known.clone_ref(py));
        }
        let core = self.core.service(name).ok_or_else(|| PyKeyError::new_err(name.to_owned()))?;
        let proxy = Py::new(py, ServiceProxy::of_core(py, core, self.clock.as_ref())?)?;
        // Of two who make one at the same time, one wins.
        let known = self.proxies().entry(name.to_owned()).or_insert_with(|| proxy.clone_ref(py)).clone_ref(py);
        Ok(known)
    }

    /// The names of the services.
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.core.services().iter().map(|proxy| proxy.name().to_owned()).collect::<Vec<_>>())
    }

    /// The proxies, in the order of their names.
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let proxies: PyResult<Vec<_>> =
            self.core.services().iter().map(|proxy| self.__getitem__(py, proxy.name())).collect();
        PyList::new(py, proxies?)
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        self.keys(py)?.try_iter()
    }

    fn __len__(&self) -> usize {
        self.core.services().len()
    }

    /// A mesh without services is one nevertheless.
    #[expect(clippy::unused_self, reason = "a method of Python's")]
    fn __bool__(&self) -> bool {
        true
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> bool {
        name.extract::<String>().is_ok_and(|name| self.core.service(&name).is_some())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        Ok(format!("{}({})", slf.get_type().name()?, slf.get().keys(slf.py())?.repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if !self.filled.is_filled() {
            return Ok(());
        }
        visit.call(&self.clock)?;
        self.listeners.visit(&visit)?;
        self.proxies().values().try_for_each(|proxy| visit.call(proxy))
    }

    fn __clear__(&self) {
        let proxies = std::mem::take(&mut *self.proxies());
        drop(proxies);
        self.listeners.clear();
    }
}

impl Mesh {
    fn of(
        core: service_mesh::Mesh,
        path: Option<PathBuf>,
        listeners: Arc<Listeners>,
        clock: Option<&Bound<'_, ManualClock>>,
    ) -> Self {
        Self {
            filled: Filled::YES,
            core,
            path,
            listeners,
            clock: clock.map(|clock| clock.clone().unbind()),
            proxies: Mutex::default(),
        }
    }

    fn proxies(&self) -> MutexGuard<'_, BTreeMap<String, Py<ServiceProxy>>> {
        lock(&self.proxies)
    }

    /// Tells the objects what the file has changed.
    fn follow(&self, py: Python<'_>, changes: &PolicyChanges) -> PyResult<()> {
        // Whoever is gone is forgotten; who still holds the object goes on with it as it was.
        let gone: Vec<_> = changes.removed().iter().filter_map(|name| self.proxies().remove(name)).collect();
        drop(gone);
        for (name, sections) in changes.changed() {
            let known = self.proxies().get(name).map(|proxy| proxy.clone_ref(py));
            if let Some(proxy) = known {
                proxy.get().follow(py, sections)?;
            }
        }
        Ok(())
    }
}

fn builder(
    py: Python<'_>,
    listeners: Option<&Bound<'_, PyAny>>,
    max_ejected_ratio: Option<&Bound<'_, PyAny>>,
    clock: Option<&Bound<'_, ManualClock>>,
) -> PyResult<(MeshBuilder, Arc<Listeners>)> {
    let listeners = Arc::new(Listeners::of(listeners, Log::new(environment(clock)))?);
    let mut builder = service_mesh::Mesh::builder().environment(environment(clock));
    if let Some(ratio) = max_ejected_ratio {
        let ratio = number("max_ejected_ratio", ratio)?;
        builder = builder.max_ejected_ratio(ratio).map_err(|error| config_error(py, &error))?;
    }
    let told = Arc::clone(&listeners);
    Ok((builder.listener(move |event: &Event| told.tell(event, false)), listeners))
}

/// `PolicyError`, or the `OSError` why a file cannot be read.
fn policy_error(py: Python<'_>, error: &PolicyError) -> PyErr {
    if let Some(unreadable) = error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        return os_error(py, unreadable, error.path()).unwrap_or_else(|error| error);
    }
    let build = || {
        let module = py.import(MODULE)?;
        let mistake = module.getattr("Mistake")?;
        let mistakes: PyResult<Vec<_>> = error
            .mistakes()
            .iter()
            .map(|each| {
                let known = (each.line(), each.column(), each.key(), each.message()).into_pyobject(py)?;
                mistake.call_out_with(&known, None)
            })
            .collect();
        let known = PyDict::new(py);
        known.set_item("mistakes", PyTuple::new(py, mistakes?)?)?;
        known.set_item("path", error.path().map(|path| path.display().to_string()))?;
        module
            .getattr(intern!(py, "PolicyError"))?
            .call_out_with(&(error.to_string(),).into_pyobject(py)?, Some(&known))
    };
    build().map_or_else(|error| error, PyErr::from_value)
}

/// The `OSError` of a file. Python puts its number before the text and the path behind it, so that neither is said here.
fn os_error(py: Python<'_>, error: &io::Error, path: Option<&Path>) -> PyResult<PyErr> {
    let path = path.map(|path| path.display().to_string());
    let Some(number) = error.raw_os_error() else {
        let text = path.map_or_else(|| error.to_string(), |path| format!("{error}: '{path}'"));
        return Ok(PyOSError::new_err(text));
    };
    let text: String = py.import("os")?.call_method1("strerror", (number,))?.extract()?;
    Ok(PyOSError::new_err((number, text, path)))
}

fn changes_of<'py>(py: Python<'py>, changes: &PolicyChanges) -> PyResult<Bound<'py, PyAny>> {
    let by_service = PyDict::new(py);
    for (name, sections) in changes.changed() {
        by_service.set_item(name, PyTuple::new(py, sections)?)?;
    }
    let told = PyDict::new(py);
    told.set_item("added", PyTuple::new(py, changes.added())?)?;
    told.set_item("removed", PyTuple::new(py, changes.removed())?)?;
    told.set_item("changed", by_service)?;
    told.set_item("sidecar", PyTuple::new(py, changes.sidecar())?)?;
    told.set_item("text", changes.to_string())?;
    py.import(MODULE)?.getattr("PolicyChanges")?.call_out_with(&PyTuple::empty(py), Some(&told))
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Mesh").field(&self.core).finish()
    }
}
