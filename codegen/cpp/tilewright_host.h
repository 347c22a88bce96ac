// What printed host programs stand on: functions of Python and torch, arguments, and a call with its arena and tensors.
//
// Nothing is linked: the loader (codegen/native_host.py) passes the addresses of all that is called. So no header of
// Python or torch is needed, and a library has no undefined symbols that could keep it from being opened.
#pragma once

#include <initializer_list>

#include "tilewright.h"

// Nothing here is worth a long compilation.
#pragma GCC optimize("O1")

typedef struct _object PyObject;
typedef struct AtenTensorOpaque* AtenTensorHandle;  // a pointer to an at::Tensor

namespace tw {

// Python's are of its stable ABI, torch's of its C shim, but for THPVariable_Wrap, torch's own way from a tensor to its
// Python object. The loader reads the names from these lines. What begins with `torch_exception` may be missing (null).
#define TW_HOST_FUNCTIONS(F) \
  F(PyObject*, PyCFunction_NewEx, (void* method, PyObject* self, PyObject* module)) \
  F(PyObject*, PyCapsule_New, (void* pointer, const char* name, void (*destructor)(PyObject*))) \
  F(void*, PyCapsule_GetPointer, (PyObject* capsule, const char* name)) \
  F(void*, PyEval_SaveThread, ()) \
  F(void, PyEval_RestoreThread, (void* state)) \
  F(PyObject*, PyList_New, (intptr_t size)) \
  F(int, PyList_SetItem, (PyObject* list, intptr_t index, PyObject* item)) \
  F(long long, PyLong_AsLongLong, (PyObject* object)) \
  F(PyObject*, PyLong_FromLongLong, (long long value)) \
  F(PyObject*, PyErr_Occurred, ()) \
  F(PyObject*, PyUnicode_FromString, (const char* text)) \
  F(void, Py_IncRef, (PyObject* object)) \
  F(void, Py_DecRef, (PyObject* object)) \
  F(PyObject*, THPVariable_Wrap, (const void* tensor)) \
  F(int32_t, aoti_torch_get_dim, (AtenTensorHandle, int64_t* dim)) \
  F(int32_t, aoti_torch_get_sizes, (AtenTensorHandle, int64_t** sizes)) \
  F(int32_t, aoti_torch_get_strides, (AtenTensorHandle, int64_t** strides)) \
  F(int32_t, aoti_torch_get_dtype, (AtenTensorHandle, int32_t* dtype)) \
  F(int32_t, aoti_torch_get_device_type, (AtenTensorHandle, int32_t* device)) \
  F(int32_t, aoti_torch_get_data_ptr, (AtenTensorHandle, void** data)) \
  F(int32_t, aoti_torch_get_storage_size, (AtenTensorHandle, int64_t* bytes)) \
  F(int32_t, aoti_torch_get_storage_offset, (AtenTensorHandle, int64_t* offset)) \
  F(int32_t, aoti_torch_is_defined, (AtenTensorHandle, bool* defined)) \
  F(int32_t, aoti_torch_delete_tensor_object, (AtenTensorHandle)) \
  F(int32_t, aoti_torch_new_tensor_handle, (AtenTensorHandle, AtenTensorHandle* result)) \
  F(int32_t, aoti_torch_empty_strided, (int64_t dim, const int64_t* sizes, const int64_t* strides, int32_t dtype, \
      int32_t device, int32_t index, AtenTensorHandle* result)) \
  F(int32_t, aoti_torch_create_tensor_from_blob, (void* data, int64_t dim, const int64_t* sizes, \
      const int64_t* strides, int64_t offset, int32_t dtype, int32_t device, int32_t index, AtenTensorHandle* result)) \
  F(int32_t, aoti_torch__reinterpret_tensor, (AtenTensorHandle, int64_t dim, const int64_t* sizes, \
      const int64_t* strides, int64_t offset, AtenTensorHandle* result)) \
  F(int32_t, aoti_torch_copy_, (AtenTensorHandle to, AtenTensorHandle from, int32_t non_blocking)) \
  F(int32_t, aoti_torch_cpu_mm_out, (AtenTensorHandle out, AtenTensorHandle, AtenTensorHandle)) \
  F(int32_t, aoti_torch_cpu_bmm_out, (AtenTensorHandle out, AtenTensorHandle, AtenTensorHandle)) \
  F(int32_t, aoti_torch_cpu_addmm_out, (AtenTensorHandle out, AtenTensorHandle bias, AtenTensorHandle, \
      AtenTensorHandle, double beta, double alpha)) \
  F(int32_t, aoti_torch_cpu_baddbmm_out, (AtenTensorHandle out, AtenTensorHandle bias, AtenTensorHandle, \
      AtenTensorHandle, double beta, double alpha)) \
  F(uint64_t, aoti_torch_abi_version, ()) \
  F(int32_t, torch_call_dispatcher, (const char* name, const char* overload, uint64_t* stack, uint64_t version)) \
  F(int32_t, torch_new_list_reserve_size, (size_t size, void** list)) \
  F(int32_t, torch_list_push_back, (void* list, uint64_t element)) \
  F(int32_t, torch_new_string_handle, (const char* text, size_t length, void** string)) \
  F(const char*, torch_exception_get_what_without_backtrace, ())

struct Results;

// The addresses, and what the loader has found out about objects of Python and torch.
struct Api {
  int64_t size;  // of this in bytes, as the loader counts
#define TW_FIELD(Result, name, parameters) Result (*name) parameters;
  TW_HOST_FUNCTIONS(TW_FIELD)
#undef TW_FIELD
  PyObject* none;
  PyObject* tensor_class;
  PyObject* parameter_class;
  intptr_t class_offset;   // of an object's class in its memory, in bytes
  intptr_t tensor_offset;  // of the at::Tensor in the memory of a torch.Tensor
  Results* results;        // those that are kept
  intptr_t storage_offset, counts_offset;  // of the storage in what an at::Tensor points to, of the counts in a storage
  int64_t sole_owner;      // the counts of a storage that one tensor has
};
static Api api;

// torch's numbers for element types (c10::ScalarType), and for the CPU.
enum Dtype : int32_t {
  u8 = 0, i8 = 1, i16 = 2, i32 = 3, i64 = 4, f16 = 5, f32 = 6, f64 = 7, c64 = 9, c128 = 10, bool8 = 11, bf16 = 15,
  f8e5m2 = 23, f8e4m3 = 24
};
constexpr int32_t cpu = 0, no_index = -1;

typedef std::initializer_list<int64_t> Dims;

// What ends a call: torch's message, or none where a Python error is set.
struct Failure {
  const char* message;
};

[[noreturn]] static void fail(const char* message) { throw Failure{message}; }

static void check(int32_t error) {
  if (!error) return;
  const auto what = api.torch_exception_get_what_without_backtrace;
  fail(what ? what() : "a call of torch failed; torch has logged why");
}

}  // namespace tw

#include "tilewright_results.h"

namespace tw {

// A tensor that somebody else owns.
struct Tensor {
  AtenTensorHandle handle;

  operator AtenTensorHandle() const { return handle; }
  char* data() const {
    void* address;
    check(api.aoti_torch_get_data_ptr(handle, &address));
    return static_cast<char*>(address);
  }
  // -1 where there is no such dim.
  int64_t size(int64_t dim) const {
    int64_t dims, *sizes;
    if (api.aoti_torch_get_dim(handle, &dims) || dim >= dims || api.aoti_torch_get_sizes(handle, &sizes)) return -1;
    return sizes[dim];
  }
};

// The tensor in a Python object of torch.Tensor.
TW_INLINE Tensor tensor_of(PyObject* object) {
  return {reinterpret_cast<AtenTensorHandle>(reinterpret_cast<char*>(object) + api.tensor_offset)};
}

// The value of a Python int.
static int64_t integer(PyObject* object) {
  const int64_t value = api.PyLong_AsLongLong(object);
  if (value == -1 && api.PyErr_Occurred()) fail(nullptr);
  return value;
}

// Whether a tensor has these sizes and lies so in memory; the stride of a dim of size 1 may be any.
static bool lies_as(Tensor tensor, Dims sizes, Dims strides) {
  int64_t dims, *its_sizes, *its_strides;
  if (api.aoti_torch_get_dim(tensor, &dims) || dims != int64_t(sizes.size()) ||
      api.aoti_torch_get_sizes(tensor, &its_sizes) || api.aoti_torch_get_strides(tensor, &its_strides))
    return false;
  bool agree = true, empty = false;
  for (int64_t dim = 0; dim < dims; ++dim) {
    const int64_t size = sizes.begin()[dim];
    if (its_sizes[dim] != size) return false;
    agree &= size == 1 || its_strides[dim] == strides.begin()[dim];
    empty |= size == 0;
  }
  return agree || empty;
}

// Whether an argument is what the program was compiled for.
static bool fits(Tensor tensor, Dims sizes, Dims strides, Dtype dtype) {
  int32_t its_dtype, device;
  return !api.aoti_torch_get_dtype(tensor, &its_dtype) && its_dtype == dtype &&
      !api.aoti_torch_get_device_type(tensor, &device) && device == cpu && lies_as(tensor, sizes, strides);
}

// A tensor over memory at an address, made once and kept while that address, sizes and strides stay.
struct View {
  AtenTensorHandle tensor;
  const void* data;
};

// The memory of one call: the arena, and the tensors that library calls see in it. Leased, so that two calls at once
// have one each. Python's lock is held where frames are taken and given back.
struct Frame {
  Frame* next;
  char* arena;
  int64_t capacity;
  View views[];
};

struct Program {
  Frame* free;  // frames that no call has
  const void* const* kernels;
  const char* kinds;  // of the arguments: 't', a tensor, or 'i', an int
  int64_t arguments, views;
};

// What a program gives: a tensor, an object, or an int.
struct Result {
  enum { TENSOR, OBJECT, INT } kind;
  union {
    AtenTensorHandle tensor;
    PyObject* object;
    int64_t value;
  };
  Result(Tensor tensor) : kind(TENSOR), tensor(tensor) {}
  Result(PyObject* object) : kind(OBJECT), object(object) {}
  Result(int64_t value) : kind(INT), value(value) {}
};

// One call, during which other Python threads run.
class Call {
 public:
  char* arena;

  // `owned` is room for all tensors that the call will own.
  Call(Program& program, int64_t arena_bytes, AtenTensorHandle* owned) : program(program), owned(owned) {
    frame = program.free;
    if (frame) {
      program.free = frame->next;
    } else {
      frame = static_cast<Frame*>(calloc(1, sizeof(Frame) + program.views * sizeof(View)));
      if (!frame) fail("out of memory");
    }
    if (frame->capacity < arena_bytes) reserve(arena_bytes);
    arena = frame->arena;
    thread = api.PyEval_SaveThread();
  }
  ~Call() {
    for (int64_t i = 0; i < count; ++i) api.aoti_torch_delete_tensor_object(owned[i]);
    lock();
    give_back();
  }
  Call(const Call&) = delete;

  Tensor own(AtenTensorHandle tensor) { return {owned[count++] = tensor}; }

  // Free an owned tensor, which nothing needs any more.
  void release(Tensor tensor) {
    for (int64_t i = count; i-- > 0;) {
      if (owned[i] != tensor.handle) continue;
      owned[i] = owned[--count];
      api.aoti_torch_delete_tensor_object(tensor);
      return;
    }
  }

  Tensor output(Dims sizes, Dims strides, Dtype dtype) {
    return own(new_result(sizes, strides, dtype));
  }

  // The tensor at an address, for library calls.
  Tensor view(int64_t number, void* data, Dims sizes, Dims strides, Dtype dtype) {
    View& kept = frame->views[number];
    if (kept.tensor && kept.data == data && lies_as({kept.tensor}, sizes, strides)) return {kept.tensor};
    if (kept.tensor) api.aoti_torch_delete_tensor_object(kept.tensor);
    kept.tensor = nullptr;
    check(api.aoti_torch_create_tensor_from_blob(
        data, sizes.size(), sizes.begin(), strides.begin(), 0, dtype, cpu, no_index, &kept.tensor));
    kept.data = data;
    return {kept.tensor};
  }

  // A result that shares a tensor's memory, `offset` elements further.
  Tensor alias(Tensor tensor, int64_t offset, Dims sizes, Dims strides) {
    AtenTensorHandle made;
    check(api.aoti_torch__reinterpret_tensor(tensor, sizes.size(), sizes.begin(), strides.begin(), offset, &made));
    return own(made);
  }

  // Call an operator through torch's dispatcher. The stack has the arguments, then the results: the tensors among
  // these come first, at least `expected` of them.
  void dispatch(const char* name, const char* overload, uint64_t* stack, int64_t returns, int64_t expected) {
    check(api.torch_call_dispatcher(name, overload, stack, api.aoti_torch_abi_version()));
    int64_t found = 0;
    for (int64_t i = 0; i < returns; ++i) {
      const Tensor result = own(reinterpret_cast<AtenTensorHandle>(stack[i]));
      bool defined;
      check(api.aoti_torch_is_defined(result, &defined));
      if (defined) stack[found++] = stack[i];
    }
    if (found < expected) fail("a library call gave fewer tensors than tracing saw");
  }

  // A library's result in the layout that tracing promised.
  Tensor result(uint64_t value, Dims sizes, Dims strides, Dtype dtype) {
    const Tensor given{reinterpret_cast<AtenTensorHandle>(value)};
    if (lies_as(given, sizes, strides)) return given;
    for (int64_t dim = 0; dim < int64_t(sizes.size()); ++dim)
      if (given.size(dim) != sizes.begin()[dim]) fail("a library call gave another shape than tracing saw");
    if (given.size(sizes.size()) != -1) fail("a library call gave another rank than tracing saw");
    const Tensor copy = output(sizes, strides, dtype);
    check(api.aoti_torch_copy_(copy, given, 0));
    release(given);
    return copy;
  }

  // The list of results, or what the kernels reported as failed.
  PyObject* give(int64_t status, std::initializer_list<Result> results) {
    lock();
    if (status) return api.PyLong_FromLongLong(status);
    PyObject* list = api.PyList_New(results.size());
    int64_t index = 0;
    for (const Result& result : results) {
      PyObject* item = result.object;
      if (result.kind == Result::TENSOR) item = api.THPVariable_Wrap(result.tensor);
      if (result.kind == Result::INT) item = api.PyLong_FromLongLong(result.value);
      if (result.kind == Result::OBJECT) api.Py_IncRef(item);
      api.PyList_SetItem(list, index++, item);
    }
    return list;
  }

 private:
  Program& program;
  Frame* frame;
  AtenTensorHandle* owned;
  int64_t count = 0;
  void* thread = nullptr;

  void lock() {
    if (thread) api.PyEval_RestoreThread(thread);
    thread = nullptr;
  }
  void give_back() {
    frame->next = program.free;
    program.free = frame;
  }
  void reserve(int64_t bytes) {
    ::free(frame->arena);
    frame->capacity = 0;
    frame->arena = static_cast<char*>(aligned_alloc(64, (bytes + 63) / 64 * 64));
    if (!frame->arena) {
      give_back();
      fail("out of memory for a program's temporaries");
    }
    frame->capacity = bytes;
  }
};

// ---- Arguments of calls through the dispatcher: 64 bits each ---------------------------------------------------------

TW_INLINE uint64_t value(int64_t value) { return value; }
TW_INLINE uint64_t value(double value) { return bits_as<uint64_t>(value); }
TW_INLINE uint64_t value(bool value) { return value; }
// The callee owns what it gets.
static inline uint64_t value(Tensor tensor) {
  AtenTensorHandle given;
  check(api.aoti_torch_new_tensor_handle(tensor, &given));
  return reinterpret_cast<uint64_t>(given);
}
static inline uint64_t value(const char* text) {
  void* string;
  check(api.torch_new_string_handle(text, __builtin_strlen(text), &string));
  return reinterpret_cast<uint64_t>(string);
}
constexpr uint64_t none = 0, cpu_device = 0xffffffff;
static inline uint64_t some(uint64_t value) { return reinterpret_cast<uint64_t>(new uint64_t(value)); }
static inline uint64_t list(std::initializer_list<uint64_t> elements) {
  void* made;
  check(api.torch_new_list_reserve_size(elements.size(), &made));
  for (const uint64_t element : elements) check(api.torch_list_push_back(made, element));
  return reinterpret_cast<uint64_t>(made);
}

// ---- Programs as Python functions -----------------------------------------------------------------------------------

// What Python calls: `run` gives the results, or null where the arguments are not what the program was compiled for.
// Python gets the list of results; None for null; the kernels' status; or the text of a library's failure.
template <PyObject* (*run)(Program&, PyObject* const*)>
static PyObject* entry(PyObject* self, PyObject* const* args, intptr_t count) {
  Program& program = *static_cast<Program*>(api.PyCapsule_GetPointer(self, nullptr));
  bool expected = count == program.arguments;
  for (int64_t i = 0; expected && i < count; ++i) {
    PyObject* its_class = *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(args[i]) + api.class_offset);
    expected = (its_class == api.tensor_class || its_class == api.parameter_class) == (program.kinds[i] == 't');
  }
  PyObject* result = nullptr;
  try {
    if (expected) result = run(program, args);
  } catch (const Failure& failure) {
    // An operator in Python has raised an error of its own, and left it set.
    if (!failure.message || api.PyErr_Occurred()) return nullptr;
    return api.PyUnicode_FromString(failure.message);
  }
  if (result) return result;
  api.Py_IncRef(api.none);
  return api.none;
}

static void destroy(PyObject* capsule) {
  Program* program = static_cast<Program*>(api.PyCapsule_GetPointer(capsule, nullptr));
  while (Frame* frame = program->free) {
    program->free = frame->next;
    for (int64_t i = 0; i < program->views; ++i)
      if (frame->views[i].tensor) api.aoti_torch_delete_tensor_object(frame->views[i].tensor);
    free(frame->arena);
    free(frame);
  }
  delete program;
  // What other programs need of them they make again.
  const ResultsLock lock;
  if (lock.held) forget_results(0);
}

// The Python function that runs a program. It holds `library`, the object that keeps this code open. Null where the
// loader knows other functions than this was built for.
template <PyObject* (*run)(Program&, PyObject* const*)>
static PyObject* function(
    const Api* addresses, const void* const* kernels, const char* kinds, int64_t views, PyObject* library) {
  static const struct {
    const char* name;
    PyObject* (*call)(PyObject*, PyObject* const*, intptr_t);
    int flags;
    const char* doc;
  } method = {"run", entry<run>, 0x80 /* METH_FASTCALL */, nullptr};
  if (addresses->size != sizeof(Api) || addresses->results->size != sizeof(Results)) return nullptr;
  api = *addresses;
  Program* program = new Program{nullptr, kernels, kinds, int64_t(__builtin_strlen(kinds)), views};
  PyObject* capsule = api.PyCapsule_New(program, nullptr, destroy);
  PyObject* made = api.PyCFunction_NewEx((void*)&method, capsule, library);
  api.Py_DecRef(capsule);  // the function holds it
  return made;
}

}  // namespace tw

// A host program, which stands last in its file, is a list of calls: there is nothing in it to optimize, and gcc's time
// for that grows faster than the list.
#pragma GCC optimize("O0")
