#ifndef REVERIE_STOP_H_
#define REVERIE_STOP_H_

#include <atomic>

namespace reverie {

// The wish of whoever waits for a call that it end early: the user has pressed Ctrl-C. Long
// work asks for it now and then, in the thread that does the work, and then leaves what it
// works on as it was, or as it would be after a part of the work that makes sense by itself;
// the call gives kInterrupted. Nobody has to ask: short work goes on to its end.
class Stop {
 public:
  // Any thread.
  void Ask() noexcept { asked_.store(true, std::memory_order_relaxed); }

  // That of the work that this thread does; null: nobody would ask for its end.
  static const Stop* current() noexcept { return current_; }
  // Whether it had better end. Cheap enough for each of some thousand items.
  static bool Asked() noexcept {
    return current_ != nullptr && current_->asked_.load(std::memory_order_relaxed);
  }

  // Until the end of the scope this thread works for who may ask for `stop`.
  class Scope {
   public:
    explicit Scope(const Stop* stop) noexcept : before_(current_) { current_ = stop; }
    ~Scope() { current_ = before_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    const Stop* const before_;
  };

 private:
  inline static thread_local const Stop* current_ = nullptr;

  std::atomic<bool> asked_{false};
};

}  // namespace reverie

#endif  // REVERIE_STOP_H_
