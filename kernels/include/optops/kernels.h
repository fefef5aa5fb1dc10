/* The C interface of the operator library: plain pointers in, a status out, nothing thrown, nothing
 * aborted.
 *
 * All functions may be called from several threads at once. Matrices are row-major; sizes are in
 * elements.
 */
#ifndef OPTOPS_KERNELS_H_
#define OPTOPS_KERNELS_H_

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define OPTOPS_API __attribute__((visibility("default")))
#else
#define OPTOPS_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  OPTOPS_OK = 0,
  OPTOPS_INVALID = 1,       /* an argument is wrong; the message says which */
  OPTOPS_OUT_OF_MEMORY = 2, /* nothing was changed */
  OPTOPS_UNSUPPORTED = 3    /* this processor or this build can not do it */
} optops_code;

/* What a call came to. The caller owns it; it may be NULL where the caller does not care. */
typedef struct {
  int32_t code;
  char message[256];
} optops_status;

typedef enum { OPTOPS_FP32 = 0, OPTOPS_BF16 = 1, OPTOPS_INT8 = 2 } optops_precision;

typedef enum {
  OPTOPS_LINEAR = 0,
  OPTOPS_RELU = 1,
  OPTOPS_GELU_ERF = 2,
  OPTOPS_GELU_TANH = 3,
  OPTOPS_SILU = 4
} optops_activation;

/* The instruction set in use: generic, avx2, avx512, avx512_vnni or avx512_bf16; the environment
 * variable OPTOPS_ISA forces one that the processor has. */
OPTOPS_API const char* optops_isa(void);

/* The instruction sets that this build has and this processor can run, best first, separated by
 * commas. */
OPTOPS_API const char* optops_isas(void);

/* Threads that a call uses if it is told 0: OPTOPS_THREADS, or the processors that this process may
 * run on. */
OPTOPS_API int32_t optops_threads(void);

/* A product's weights, packed for the processor; see optops_product_pack. */
typedef struct optops_product optops_product;

/* Packs the weights of y = x W + b once, so that no call has to.
 *
 * weights: [inputs, outputs]. bias: [outputs], or NULL. Both are copied. precision: an
 * optops_precision. Returns NULL where status says why. Free it with optops_product_free.
 */
OPTOPS_API optops_product* optops_product_pack(const float* weights, const float* bias,
                                               int64_t inputs, int64_t outputs, int32_t precision,
                                               optops_status* status);

OPTOPS_API void optops_product_free(optops_product* product);

/* Bytes of packed weights that a call reads. */
OPTOPS_API size_t optops_product_bytes(const optops_product* product);

/* y = activation(x W + b) + residual.
 *
 * x: [rows, inputs]. y: [rows, outputs]. residual: [rows, outputs], or NULL; it may be y.
 * activation: an optops_activation. threads: 0 for the default. A call that finds the library's
 * threads busy runs on its own thread alone; the result is the same to the last bit for any number
 * of threads, and for a row whatever the other rows are.
 *
 * fp32 adds up in order of the inputs. bf16 rounds x and W to bfloat16 and adds up in fp32. int8
 * has a scale per row of x (its largest magnitude / 127) and per column of W, and adds up exactly.
 */
OPTOPS_API int32_t optops_product_run(const optops_product* product, const float* x, int64_t rows,
                                      int32_t activation, const float* residual, float* y,
                                      int32_t threads, optops_status* status);

/* The sizes of an encoder. */
typedef struct {
  int32_t width;
  int32_t head_size;
  int32_t layers;
  const int32_t* heads;        /* [layers] */
  const int32_t* feed_forward; /* [layers], hidden units */
  int32_t norm_first; /* 1: norms before each block and after the last layer; 0: after each block,
                         as in BERT */
  float epsilon;      /* of the norms */
  int32_t activation; /* of the hidden units, an optops_activation */
  int32_t precision;  /* of the products, an optops_precision; all else is fp32 */
} optops_encoder_config;

/* A Transformer encoder's weights, packed. */
typedef struct optops_encoder optops_encoder;

/* Packs the weights of an encoder; all are copied.
 *
 * weights: 12 arrays for each layer, then 2 if norm_first:
 *   scale and offset of the norm before (or after) attention, [width] each;
 *   query, key and value side by side [width, 3 * heads * head_size], and their bias;
 *   attention output [heads * head_size, width], and its bias;
 *   scale and offset of the norm before (or after) the hidden units;
 *   expand [width, feed_forward], and its bias; contract [feed_forward, width], and its bias;
 *   scale and offset of the last norm.
 * count: how many arrays there are. Returns NULL where status says why. Free it with
 * optops_encoder_free.
 */
OPTOPS_API optops_encoder* optops_encoder_pack(const optops_encoder_config* config,
                                               const float* const* weights, int64_t count,
                                               optops_status* status);

OPTOPS_API void optops_encoder_free(optops_encoder* encoder);

/* Encodes sentences that stand one after the other without padding.
 *
 * x: [tokens, width], embedded. y: [tokens, width]; may be x. starts: [sentences + 1], the first
 * token of each sentence, rising from 0, then the number of tokens. No sentence may be empty or
 * longer than 65536 tokens. The result of a sentence is the same to the last bit for any number of
 * threads and for any other sentences.
 */
OPTOPS_API int32_t optops_encoder_run(const optops_encoder* encoder, const float* x,
                                      const int64_t* starts, int64_t sentences, float* y,
                                      int32_t threads, optops_status* status);

#ifdef __cplusplus
}
#endif

#endif /* OPTOPS_KERNELS_H_ */
