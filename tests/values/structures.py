"""For tests of values: structures, and what a child does with numbers."""

import ctypes


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


class Point3(Point):
    _fields_ = [("z", ctypes.c_short)]


class Number(ctypes.Union):
    _fields_ = [("i", ctypes.c_longlong), ("d", ctypes.c_double)]


class Linked(ctypes.Structure):
    _fields_ = [("next", ctypes.c_void_p), ("name", ctypes.c_char_p)]


def add(obj, lock, rounds):
    for _ in range(rounds):
        with lock:
            obj.value += 1
