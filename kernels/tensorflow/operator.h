// What all operators share: inputs with a shape, outputs, errors, and weights that stay open from
// one call to the next.
#ifndef OPTOPS_TENSORFLOW_OPERATOR_H_
#define OPTOPS_TENSORFLOW_OPERATOR_H_

#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <vector>

#include "c_api.h"
#include "optops/kernels.h"

namespace optops::tensorflow {

// An error on its way to TensorFlow.
struct Failure {
  TF_Code code;
  char message[320];
};

[[noreturn]] __attribute__((format(printf, 1, 2))) inline void refuse(const char* format, ...) {
  Failure failure{TF_INVALID_ARGUMENT, {}};
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(failure.message, sizeof(failure.message), format, arguments);
  va_end(arguments);
  throw failure;
}

// Throws what a function of the library said.
inline void check(const optops_status& status) {
  if (status.code == OPTOPS_OK) return;
  Failure failure{status.code == OPTOPS_INVALID         ? TF_INVALID_ARGUMENT
                  : status.code == OPTOPS_OUT_OF_MEMORY ? TF_RESOURCE_EXHAUSTED
                                                        : TF_UNIMPLEMENTED,
                  {}};
  std::snprintf(failure.message, sizeof(failure.message), "%s", status.message);
  throw failure;
}

class Status {
 public:
  Status() : status_(TF_NewStatus()) {}
  ~Status() { TF_DeleteStatus(status_); }
  Status(const Status&) = delete;
  Status& operator=(const Status&) = delete;

  TF_Status* get() const { return status_; }
  bool ok() const { return TF_GetCode(status_) == TF_OK; }
  void set(const Failure& failure) { TF_SetStatus(status_, failure.code, failure.message); }
  void check() const {
    if (ok()) return;
    Failure failure{TF_GetCode(status_), {}};
    std::snprintf(failure.message, sizeof(failure.message), "%s", TF_Message(status_));
    throw failure;
  }

 private:
  TF_Status* status_;
};

struct DeleteTensor {
  void operator()(TF_Tensor* tensor) const { TF_DeleteTensor(tensor); }
};
using Tensor = std::unique_ptr<TF_Tensor, DeleteTensor>;

inline int rank(const Tensor& tensor) { return TF_NumDims(tensor.get()); }

inline int64_t size(const Tensor& tensor, int axis) { return TF_Dim(tensor.get(), axis); }

// Returns an input of any rank.
inline Tensor input(TF_OpKernelContext* context, int index) {
  Status status;
  TF_Tensor* tensor = nullptr;
  TF_GetInput(context, index, &tensor, status.get());
  status.check();
  return Tensor(tensor);
}

// Returns an input of a rank.
inline Tensor input(TF_OpKernelContext* context, int index, const char* name, int wanted) {
  Tensor found = input(context, index);
  if (rank(found) != wanted)
    refuse("%s has %d dimensions; it must have %d", name, rank(found), wanted);
  return found;
}

// Returns an input of rows: any axes, then the values of a row.
inline Tensor rows_input(TF_OpKernelContext* context, int index, const char* name) {
  Tensor found = input(context, index);
  if (rank(found) < 1) refuse("%s is one number; it must have rows", name);
  return found;
}

inline int64_t width(const Tensor& rows) { return size(rows, rank(rows) - 1); }

inline int64_t count(const Tensor& rows) {
  int64_t product = 1;
  for (int axis = 0; axis < rank(rows) - 1; ++axis) product *= size(rows, axis);
  return product;
}

inline std::vector<int64_t> sizes_of(const Tensor& tensor) {
  std::vector<int64_t> sizes(rank(tensor));
  for (int axis = 0; axis < rank(tensor); ++axis) sizes[axis] = size(tensor, axis);
  return sizes;
}

template <typename T>
T* data(const Tensor& tensor) {
  return static_cast<T*>(TF_TensorData(tensor.get()));
}

// Returns a new output; T is float or int32_t.
template <typename T>
Tensor output(TF_OpKernelContext* context, int index, const std::vector<int64_t>& sizes) {
  Status status;
  int64_t count = 1;
  for (const int64_t extent : sizes) count *= extent;
  const TF_DataType type = std::is_same_v<T, float> ? TF_FLOAT : TF_INT32;
  TF_Tensor* tensor =
      TF_AllocateOutput(context, index, type, sizes.data(), static_cast<int>(sizes.size()),
                        static_cast<size_t>(count) * sizeof(T), status.get());
  status.check();
  return Tensor(tensor);
}

// Where the sentences of a padded batch [sentences, time] start once the padding is left out.
class Sentences {
 public:
  Sentences(TF_OpKernelContext* context, int index, int64_t sentences, int64_t time) : time_(time) {
    const Tensor lengths = input(context, index, "lengths", 1);
    if (size(lengths, 0) != sentences) {
      refuse("there are %lld lengths for %lld sentences", static_cast<long long>(size(lengths, 0)),
             static_cast<long long>(sentences));
    }
    const int32_t* counts = data<int32_t>(lengths);
    starts_.push_back(0);
    for (int64_t i = 0; i < sentences; ++i) {
      if (counts[i] < 1 || counts[i] > time) {
        refuse("length %lld is %d; it must be 1 to %lld", static_cast<long long>(i), counts[i],
               static_cast<long long>(time));
      }
      starts_.push_back(starts_.back() + counts[i]);
    }
  }

  int64_t count() const { return static_cast<int64_t>(starts_.size()) - 1; }
  int64_t tokens() const { return starts_.back(); }
  const int64_t* starts() const { return starts_.data(); }

  // Returns rows [tokens, width] of a batch [sentences, time, width].
  template <typename T>
  std::vector<T> without_padding(const T* batch, int64_t width) const {
    std::vector<T> rows(tokens() * width);
    for (int64_t i = 0; i < count(); ++i) {
      std::memcpy(rows.data() + starts_[i] * width, batch + i * time_ * width,
                  (starts_[i + 1] - starts_[i]) * width * sizeof(T));
    }
    return rows;
  }

  // Writes rows [tokens, width] as a batch [sentences, time, width], zero at padding.
  void with_padding(const float* rows, int64_t width, float* batch) const {
    std::memset(batch, 0, count() * time_ * width * sizeof(float));
    for (int64_t i = 0; i < count(); ++i) {
      std::memcpy(batch + i * time_ * width, rows + starts_[i] * width,
                  (starts_[i + 1] - starts_[i]) * width * sizeof(float));
    }
  }

 private:
  int64_t time_;
  std::vector<int64_t> starts_;
};

// The weights of an operator, opened from a block of bytes: once, as long as the same block comes.
template <typename Packed>
class Weights {
 public:
  using Open = Packed* (*)(const void*, int64_t, optops_status*);
  using Free = void (*)(Packed*);

  Weights(Open open, Free free) : open_(open), free_(free) {}

  // Returns the weights in an input; they live as long as the result, and the input must as well.
  std::shared_ptr<const Packed> of(const Tensor& block) {
    const auto* bytes = data<const uint8_t>(block);
    const auto count = static_cast<int64_t>(TF_TensorByteSize(block.get()));
    const std::lock_guard lock(mutex_);
    const bool same = bytes == bytes_ && count == count_ && count >= kHeader &&
                      std::memcmp(header_, bytes, kHeader) == 0;
    if (!same) {
      bytes_ = nullptr;
      optops_status status;
      opened_ = std::shared_ptr<const Packed>(
          open_(bytes, count, &status),
          [free = free_](const Packed* opened) { free(const_cast<Packed*>(opened)); });
      check(status);
      std::memcpy(header_, bytes, kHeader);
      bytes_ = bytes;
      count_ = count;
    }
    return opened_;
  }

 private:
  static constexpr int64_t kHeader = 64;  // its checksum is in it
  Open open_;
  Free free_;
  std::mutex mutex_;
  const uint8_t* bytes_ = nullptr;
  int64_t count_ = 0;
  uint8_t header_[kHeader] = {};
  std::shared_ptr<const Packed> opened_;
};

// Reads the attributes of an operator.
class Attributes {
 public:
  explicit Attributes(TF_OpKernelConstruction* construction) : construction_(construction) {}

  int32_t integer(const char* name) const {
    Status status;
    int32_t value = 0;
    TF_OpKernelConstruction_GetAttrInt32(construction_, name, &value, status.get());
    status.check();
    return value;
  }

  float real(const char* name) const {
    Status status;
    float value = 0;
    TF_OpKernelConstruction_GetAttrFloat(construction_, name, &value, status.get());
    status.check();
    return value;
  }

 private:
  TF_OpKernelConstruction* construction_;
};

// Registers an operator for the CPU. Operator is made from Attributes, and has
// `void compute(TF_OpKernelContext*)`, which may throw a Failure.
template <typename Operator>
void register_operator(const char* name, std::initializer_list<const char*> inputs,
                       std::initializer_list<const char*> outputs,
                       std::initializer_list<const char*> attributes) {
  TF_OpDefinitionBuilder* definition = TF_NewOpDefinitionBuilder(name);
  for (const char* spec : inputs) TF_OpDefinitionBuilderAddInput(definition, spec);
  for (const char* spec : outputs) TF_OpDefinitionBuilderAddOutput(definition, spec);
  for (const char* spec : attributes) TF_OpDefinitionBuilderAddAttr(definition, spec);
  // The stable interface can not read what shapes depend on here; Python sets what is known.
  TF_OpDefinitionBuilderSetShapeInferenceFunction(definition,
                                                  &TF_ShapeInferenceContextSetUnknownShape);
  Status status;
  TF_RegisterOpDefinition(definition, status.get());
  if (!status.ok()) {
    std::fprintf(stderr, "optops: %s can not be registered: %s\n", name, TF_Message(status.get()));
    return;
  }
  const auto create = [](TF_OpKernelConstruction* construction) -> void* {
    Status outcome;
    try {
      return new Operator(Attributes(construction));
    } catch (const Failure& failure) {
      outcome.set(failure);
    } catch (const std::bad_alloc&) {
      outcome.set({TF_RESOURCE_EXHAUSTED, "out of memory"});
    }
    TF_OpKernelConstruction_Failure(construction, outcome.get());
    return nullptr;
  };
  const auto compute = [](void* state, TF_OpKernelContext* context) {
    Status outcome;
    try {
      static_cast<Operator*>(state)->compute(context);
      return;
    } catch (const Failure& failure) {
      outcome.set(failure);
    } catch (const std::exception& error) {  // no memory, or a size that is none
      Failure failure{TF_RESOURCE_EXHAUSTED, {}};
      std::snprintf(failure.message, sizeof(failure.message), "%s", error.what());
      outcome.set(failure);
    }
    TF_OpKernelContext_Failure(context, outcome.get());
  };
  const auto destroy = [](void* state) { delete static_cast<Operator*>(state); };
  TF_KernelBuilder* builder = TF_NewKernelBuilder(name, "CPU", create, compute, destroy);
  TF_RegisterKernelBuilder(name, builder, status.get());
  if (!status.ok()) {
    std::fprintf(stderr, "optops: no kernel for %s: %s\n", name, TF_Message(status.get()));
  }
}

}  // namespace optops::tensorflow

#endif  // OPTOPS_TENSORFLOW_OPERATOR_H_
