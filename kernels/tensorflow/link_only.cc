// Stands for TensorFlow's library while ours is linked: the same name and the same functions, which
// do nothing. It is never installed or loaded.
#include "c_api.h"

TF_Status* TF_NewStatus(void) { return nullptr; }
void TF_DeleteStatus(TF_Status*) {}
void TF_SetStatus(TF_Status*, TF_Code, const char*) {}
TF_Code TF_GetCode(const TF_Status*) { return TF_OK; }
const char* TF_Message(const TF_Status*) { return ""; }
void TF_DeleteTensor(TF_Tensor*) {}
int TF_NumDims(const TF_Tensor*) { return 0; }
int64_t TF_Dim(const TF_Tensor*, int) { return 0; }
size_t TF_TensorByteSize(const TF_Tensor*) { return 0; }
void* TF_TensorData(const TF_Tensor*) { return nullptr; }
TF_OpDefinitionBuilder* TF_NewOpDefinitionBuilder(const char*) { return nullptr; }
void TF_OpDefinitionBuilderAddAttr(TF_OpDefinitionBuilder*, const char*) {}
void TF_OpDefinitionBuilderAddInput(TF_OpDefinitionBuilder*, const char*) {}
void TF_OpDefinitionBuilderAddOutput(TF_OpDefinitionBuilder*, const char*) {}
void TF_OpDefinitionBuilderSetShapeInferenceFunction(TF_OpDefinitionBuilder*,
                                                     void (*)(TF_ShapeInferenceContext*,
                                                              TF_Status*)) {}
void TF_RegisterOpDefinition(TF_OpDefinitionBuilder*, TF_Status*) {}
void TF_ShapeInferenceContextSetUnknownShape(TF_ShapeInferenceContext*, TF_Status*) {}
TF_KernelBuilder* TF_NewKernelBuilder(const char*, const char*, void* (*)(TF_OpKernelConstruction*),
                                      void (*)(void*, TF_OpKernelContext*), void (*)(void*)) {
  return nullptr;
}
void TF_RegisterKernelBuilder(const char*, TF_KernelBuilder*, TF_Status*) {}
void TF_OpKernelConstruction_GetAttrInt32(TF_OpKernelConstruction*, const char*, int32_t*,
                                          TF_Status*) {}
void TF_OpKernelConstruction_GetAttrFloat(TF_OpKernelConstruction*, const char*, float*,
                                          TF_Status*) {}
void TF_OpKernelConstruction_Failure(TF_OpKernelConstruction*, TF_Status*) {}
void TF_GetInput(TF_OpKernelContext*, int, TF_Tensor**, TF_Status*) {}
TF_Tensor* TF_AllocateOutput(TF_OpKernelContext*, int, TF_DataType, const int64_t*, int, size_t,
                             TF_Status*) {
  return nullptr;
}
void TF_OpKernelContext_Failure(TF_OpKernelContext*, TF_Status*) {}
