// numpy's scalars of plain numbers: which type has which type number.
#pragma once
#include "bindings/numpy_api.hpp"

namespace onecopy::py {

constexpr std::size_t kLongestScalar = 32;  // a complex number of two long doubles

constexpr bool is_number_type(int type) noexcept {
    return (type >= NPY_BOOL && type <= NPY_CLONGDOUBLE) || type == NPY_HALF;
}

// The type number of a scalar's exact type; -1: it is none of a plain number.
inline int number_of_scalar(PyTypeObject* type) noexcept {
    const struct {
        PyTypeObject* type;
        int number;
    } all[] = {
        {&PyDoubleArrType_Type, NPY_DOUBLE},
        {&PyFloatArrType_Type, NPY_FLOAT},
        {&PyLongArrType_Type, NPY_LONG},
        {&PyIntArrType_Type, NPY_INT},
        {&PyBoolArrType_Type, NPY_BOOL},
        {&PyUByteArrType_Type, NPY_UBYTE},
        {&PyByteArrType_Type, NPY_BYTE},
        {&PyShortArrType_Type, NPY_SHORT},
        {&PyUShortArrType_Type, NPY_USHORT},
        {&PyUIntArrType_Type, NPY_UINT},
        {&PyULongArrType_Type, NPY_ULONG},
        {&PyLongLongArrType_Type, NPY_LONGLONG},
        {&PyULongLongArrType_Type, NPY_ULONGLONG},
        {&PyHalfArrType_Type, NPY_HALF},
        {&PyLongDoubleArrType_Type, NPY_LONGDOUBLE},
        {&PyCFloatArrType_Type, NPY_CFLOAT},
        {&PyCDoubleArrType_Type, NPY_CDOUBLE},
        {&PyCLongDoubleArrType_Type, NPY_CLONGDOUBLE},
    };
    for (const auto& pair : all) {
        if (pair.type == type) return pair.number;
    }
    return -1;
}

inline std::size_t size_of_scalar(int number) noexcept {
    switch (number) {
        case NPY_BOOL:
        case NPY_BYTE:
        case NPY_UBYTE:
            return 1;
        case NPY_SHORT:
        case NPY_USHORT:
        case NPY_HALF:
            return 2;
        case NPY_INT:
        case NPY_UINT:
        case NPY_FLOAT:
            return 4;
        case NPY_LONGDOUBLE:
            return sizeof(npy_longdouble);
        case NPY_CDOUBLE:
            return 16;
        case NPY_CLONGDOUBLE:
            return sizeof(npy_clongdouble);
        default:
            return 8;  // long, long long, double, complex of two floats
    }
}

}  // namespace onecopy::py
