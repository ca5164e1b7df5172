//! An MPI library that is opened at run time: the only calls into foreign code.
//!
//! The three binary interfaces have the same functions, and differ in what handles are: 32-bit numbers in MPICH's,
//! addresses of global variables in Open MPI's, small numbers in pointers in the standard one of MPI 5
//! (chapter 20 of its text). Constants are those of the `mpi.h` of each.

use std::ffi::{c_char, c_int, c_void};
use std::fmt::Debug;
use std::path::Path;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::call::{Broken, Comm, Mpi, Parts, Wait};

/// The most that `MPI_MAX_LIBRARY_VERSION_STRING` and `MPI_MAX_ERROR_STRING` are anywhere is 8192.
const TEXT: usize = 16 << 10;
/// `MPI_THREAD_SERIALIZED` in Open MPI and MPICH, and in the standard interface.
const SERIALIZED: c_int = 2;
const SERIALIZED_STANDARD: c_int = 2048;
/// `MPI_SUCCESS` everywhere.
const SUCCESS: c_int = 0;

/// Room for an `MPI_Status`, which has at most 32 bytes.
#[repr(C, align(16))]
struct Status([u8; 128]);

/// A handle of MPI as it is passed to functions.
trait Handle: Copy + Debug + Send + 'static {}

/// MPICH's.
impl Handle for c_int {}
/// A pointer, which is never followed here.
impl Handle for usize {}

/// Functions of the library, as the MPI standard declares them for C.
struct Functions<H> {
    init_thread: unsafe extern "C" fn(*mut c_int, *mut c_void, c_int, *mut c_int) -> c_int,
    finalize: unsafe extern "C" fn() -> c_int,
    abort: unsafe extern "C" fn(H, c_int) -> c_int,
    comm_rank: unsafe extern "C" fn(H, *mut c_int) -> c_int,
    comm_size: unsafe extern "C" fn(H, *mut c_int) -> c_int,
    comm_dup: unsafe extern "C" fn(H, *mut H) -> c_int,
    comm_set_errhandler: unsafe extern "C" fn(H, H) -> c_int,
    error_string: unsafe extern "C" fn(c_int, *mut c_char, *mut c_int) -> c_int,
    library_version: unsafe extern "C" fn(*mut c_char, *mut c_int) -> c_int,
    test: unsafe extern "C" fn(*mut H, *mut c_int, *mut Status) -> c_int,
    ibarrier: unsafe extern "C" fn(H, *mut H) -> c_int,
    iallgatherv: AllGather<H>,
    ialltoallv: AllToAll<H>,
}

type AllGather<H> = unsafe extern "C" fn(
    *const c_void,
    c_int,
    H,
    *mut c_void,
    *const c_int,
    *const c_int,
    H,
    H,
    *mut H,
) -> c_int;
type AllToAll<H> = unsafe extern "C" fn(
    *const c_void,
    *const c_int,
    *const c_int,
    H,
    *mut c_void,
    *const c_int,
    *const c_int,
    H,
    H,
    *mut H,
) -> c_int;

/// Constants of an interface.
#[derive(Clone, Copy)]
struct Constants<H> {
    world: H,
    byte: H,
    errors_return: H,
    request_null: H,
    serialized: c_int,
}

/// A function of the library by its name; what is missing as a message.
fn function<F: Copy>(library: &Library, name: &str) -> Result<F, String> {
    const { assert!(size_of::<F>() == size_of::<*const c_void>(), "functions are pointers") };
    // SAFETY: every caller names a function of the MPI standard and asks for it with the type that the standard declares for
    // it, with the handles of this library's interface. The library is never closed, so that the pointer stays good.
    let found = unsafe { library.get::<F>(name) };
    found.map(|symbol| *symbol).map_err(|_| format!("no function {name}"))
}

impl<H: Handle> Functions<H> {
    fn of(library: &Library) -> Result<Functions<H>, String> {
        Ok(Functions {
            init_thread: function(library, "MPI_Init_thread")?,
            finalize: function(library, "MPI_Finalize")?,
            abort: function(library, "MPI_Abort")?,
            comm_rank: function(library, "MPI_Comm_rank")?,
            comm_size: function(library, "MPI_Comm_size")?,
            comm_dup: function(library, "MPI_Comm_dup")?,
            comm_set_errhandler: function(library, "MPI_Comm_set_errhandler")?,
            error_string: function(library, "MPI_Error_string")?,
            library_version: function(library, "MPI_Get_library_version")?,
            test: function(library, "MPI_Test")?,
            ibarrier: function(library, "MPI_Ibarrier")?,
            iallgatherv: function(library, "MPI_Iallgatherv")?,
            ialltoallv: function(library, "MPI_Ialltoallv")?,
        })
    }
}

/// A library after `MPI_Init_thread`, with groups of messages of its own.
struct Opened<H> {
    functions: Functions<H>,
    constants: Constants<H>,
    work: H,
    end: H,
    rank: usize,
    size: usize,
    version: String,
}

impl<H: Handle> Debug for Opened<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} of {}, {}", self.rank, self.size, self.version)
    }
}

/// Opens the library at `path`, a file or a name that the system looks up, and initialises MPI; what was wrong as a
/// message, and whether the file is there at all.
pub fn open(path: &Path) -> Result<Box<dyn Mpi>, (String, bool)> {
    // Open MPI opens plugins that look for its symbols among all.
    let flags = RTLD_NOW | RTLD_GLOBAL;
    // SAFETY: the library's initialisers run. It is the machine's MPI, or the one that the user names, which every
    // MPI program runs too.
    let library = unsafe { Library::open(Some(path), flags) };
    let library = library.map_err(|e| (e.to_string(), path.is_file()))?;
    // Its threads and exit handlers may run until the process ends.
    let library: &'static Library = Box::leak(Box::new(library));
    initialise(library, path).map_err(|message| (message, true))
}

fn initialise(library: &'static Library, path: &Path) -> Result<Box<dyn Mpi>, String> {
    let address = |name: &str| {
        // SAFETY: only the address of the variable is taken, by which Open MPI's `mpi.h` defines the handle.
        let symbol = unsafe { library.get::<*mut c_void>(name) };
        symbol.map(|symbol| symbol.as_raw_ptr() as usize).map_err(|_| format!("no variable {name}"))
    };
    if let Ok(world) = address("ompi_mpi_comm_world") {
        let constants = Constants {
            world,
            byte: address("ompi_mpi_byte")?,
            errors_return: address("ompi_mpi_errors_return")?,
            request_null: address("ompi_request_null")?,
            serialized: SERIALIZED,
        };
        return Opened::start(Functions::<usize>::of(library)?, constants);
    }
    let name = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let name = name.file_name().unwrap_or_default().to_string_lossy();
    if name.contains("mpi_abi") {
        let constants = Constants {
            world: 0x101,
            byte: 0x247,
            errors_return: 0x143,
            request_null: 0x180,
            serialized: SERIALIZED_STANDARD,
        };
        return Opened::start(Functions::<usize>::of(library)?, constants);
    }
    let constants = Constants {
        world: 0x4400_0000,
        byte: 0x4c00_010d,
        errors_return: 0x5400_0001,
        request_null: 0x2c00_0000,
        serialized: SERIALIZED,
    };
    let functions = Functions::<c_int>::of(library)?;
    // Others than these may have handles of another kind.
    let version = text(|at, length| {
        // SAFETY: it may be called before MPI_Init; it writes at most 8192 characters, for which there is room, and their number.
        unsafe { (functions.library_version)(at, length) }
    });
    match ["MPICH", "Intel", "MVAPICH", "CRAY"].iter().find(|known| version.contains(*known)) {
        Some(_) => Opened::start(functions, constants),
        None => Err(format!("a library of an unknown kind ({})", first_line(&version))),
    }
}

/// What a function writes as text of a length.
fn text(write: impl FnOnce(*mut c_char, *mut c_int) -> c_int) -> String {
    let (mut bytes, mut length) = (vec![0u8; TEXT], 0);
    let code = write(bytes.as_mut_ptr().cast(), &raw mut length);
    let length = usize::try_from(length).unwrap_or(0).min(TEXT);
    let text = String::from_utf8_lossy(&bytes[..length]);
    let text = text.trim_end_matches('\0').trim().to_string();
    if code == SUCCESS { text } else { String::new() }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_end_matches([',', ' '])
}

impl<H: Handle> Opened<H> {
    fn start(functions: Functions<H>, constants: Constants<H>) -> Result<Box<dyn Mpi>, String> {
        let (mut provided, mut rank, mut size) = (0, 0, 0);
        let (mut work, mut end) = (constants.world, constants.world);
        let serialized = constants.serialized;
        // SAFETY: null pointers mean that there are no arguments to give, which the standard allows; `provided` is written.
        // Nothing here has initialised MPI before, as a `World` is made once.
        let code = unsafe {
            (functions.init_thread)(
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                serialized,
                &raw mut provided,
            )
        };
        if code != SUCCESS {
            return Err(format!("MPI_Init_thread failed with code {code}"));
        }
        if provided < serialized {
            return Err("a library without support for threads".to_string());
        }
        for comm in [&raw mut work, &raw mut end] {
            // SAFETY: MPI is initialised, and the handle that is written is valid.
            let code = unsafe { (functions.comm_dup)(constants.world, comm) };
            if code != SUCCESS {
                return Err(format!("MPI_Comm_dup failed with code {code}"));
            }
        }
        for comm in [constants.world, work, end] {
            // SAFETY: valid handles of this library; errors are then returned.
            unsafe { (functions.comm_set_errhandler)(comm, constants.errors_return) };
        }
        // SAFETY: valid handles; an integer is written by each.
        unsafe {
            (functions.comm_rank)(work, &raw mut rank);
            (functions.comm_size)(work, &raw mut size);
        }
        let version = text(|at, length| {
            // SAFETY: it writes at most 8192 characters, for which there is room, and their number.
            unsafe { (functions.library_version)(at, length) }
        });
        let version = first_line(&version).to_string();
        let (rank, size) = (usize::try_from(rank), usize::try_from(size));
        let (Ok(rank), Ok(size)) = (rank, size) else {
            return Err("a library that counts below 0".to_string());
        };
        Ok(Box::new(Opened { functions, constants, work, end, rank, size, version }))
    }

    fn comm(&self, comm: Comm) -> H {
        match comm {
            Comm::Work => self.work,
            Comm::End => self.end,
        }
    }

    fn failed(&self, function: &'static str, code: c_int) -> Broken {
        let message = text(|at, length| {
            // SAFETY: it writes at most 8192 characters, for which there is room, and their number.
            unsafe { (self.functions.error_string)(code, at, length) }
        });
        Broken::Failed { function, message }
    }

    /// Starts a call and waits for its end. What the call reads and writes is in `buffers`, which comes back when it is done;
    /// when it is not, MPI may still read and write there, so that the memory is never freed.
    fn run<B>(
        &self,
        function: &'static str,
        mut buffers: B,
        start: impl FnOnce(&mut B, *mut H) -> c_int,
        wait: &mut Wait<'_>,
    ) -> Result<B, Broken> {
        let mut request = Box::new(self.constants.request_null);
        let code = start(&mut buffers, &raw mut *request);
        if code != SUCCESS {
            std::mem::forget((buffers, request));
            return Err(self.failed(function, code));
        }
        let mut status = Status([0; 128]);
        loop {
            let mut done = 0;
            // SAFETY: the request is one that this library made; an integer and a status are written, for which there is room.
            let code =
                unsafe { (self.functions.test)(&raw mut *request, &raw mut done, &raw mut status) };
            if code != SUCCESS {
                std::mem::forget((buffers, request));
                return Err(self.failed(function, code));
            }
            if done != 0 {
                return Ok(buffers);
            }
            if wait() {
                std::mem::forget((buffers, request));
                return Err(Broken::GivenUp);
            }
        }
    }
}

/// Where bytes are. `MPI_IN_PLACE` is the address 1 in two of the interfaces, where an empty vector may seem to be too.
fn address(bytes: &mut Vec<u8>) -> *mut c_void {
    bytes.reserve(1);
    bytes.as_mut_ptr().cast()
}

/// What is said where a caller's counts do not fit its bytes.
fn misfit(function: &'static str) -> Broken {
    Broken::Failed { function, message: "counts that do not fit the buffers".to_string() }
}

impl<H: Handle> Mpi for Opened<H> {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn all_to_all(
        &mut self,
        send: Parts,
        receive: Parts,
        wait: &mut Wait<'_>,
    ) -> Result<Parts, Broken> {
        let name = "MPI_Ialltoallv";
        if !send.fits(self.size) || !receive.fits(self.size) {
            return Err(misfit(name));
        }
        let (byte, comm) = (self.constants.byte, self.work);
        let start = |(send, receive): &mut (Parts, Parts), request| {
            // SAFETY: there are as many counts and starts as processes, and every range lies in its buffer, as was checked.
            // All of it is on the heap and stays where it is until the call is done, or for ever.
            unsafe {
                (self.functions.ialltoallv)(
                    address(&mut send.bytes),
                    send.counts().as_ptr(),
                    send.starts().as_ptr(),
                    byte,
                    address(&mut receive.bytes),
                    receive.counts().as_ptr(),
                    receive.starts().as_ptr(),
                    byte,
                    comm,
                    request,
                )
            }
        };
        self.run(name, (send, receive), start, wait).map(|(_, receive)| receive)
    }

    fn all_gather(
        &mut self,
        comm: Comm,
        own: Vec<u8>,
        receive: Parts,
        wait: &mut Wait<'_>,
    ) -> Result<Parts, Broken> {
        let name = "MPI_Iallgatherv";
        let count = c_int::try_from(own.len()).map_err(|_| misfit(name))?;
        if !receive.fits(self.size) || receive.counts().get(self.rank) != Some(&count) {
            return Err(misfit(name));
        }
        let (byte, comm) = (self.constants.byte, self.comm(comm));
        let start = |(own, receive): &mut (Vec<u8>, Parts), request| {
            // SAFETY: as in `all_to_all`; `count` is the length of `own`.
            unsafe {
                (self.functions.iallgatherv)(
                    address(own),
                    count,
                    byte,
                    address(&mut receive.bytes),
                    receive.counts().as_ptr(),
                    receive.starts().as_ptr(),
                    byte,
                    comm,
                    request,
                )
            }
        };
        self.run(name, (own, receive), start, wait).map(|(_, receive)| receive)
    }

    fn barrier(&mut self, comm: Comm, wait: &mut Wait<'_>) -> Result<(), Broken> {
        let comm = self.comm(comm);
        // SAFETY: a valid handle; the request is written.
        let start = |(): &mut (), request| unsafe { (self.functions.ibarrier)(comm, request) };
        self.run("MPI_Ibarrier", (), start, wait)
    }

    fn finalize(&mut self) {
        // SAFETY: MPI is initialised; `World` calls this once, and nothing after it.
        unsafe { (self.functions.finalize)() };
    }

    fn abort(&mut self, code: i32) {
        // SAFETY: a valid handle. It may end this process.
        unsafe { (self.functions.abort)(self.constants.world, code) };
    }
}
