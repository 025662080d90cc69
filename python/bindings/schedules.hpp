#pragma once

#include <chainrule/schedule.hpp>

namespace chainrule::bindings {

struct AnySchedule {
  Schedule schedule;
};

}  // namespace chainrule::bindings
