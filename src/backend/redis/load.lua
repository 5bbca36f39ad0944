return answer(view())
