namespace MLNetLora.Inference.Constraints;

/// <summary>
/// How much one answer may take to find out what may come next. That is found out on the thread that answers everybody, so that a constraint whose every token
/// leads to something new must not go on for long: it may take a lot now and then, as each begins with, and little for each token in the long run.
/// </summary>
/// <param name="store">The store that counts the work: parts of terms that are looked at, about ten in a microsecond. Its grammar's lock must be held.</param>
internal sealed class WorkBudget(TermStore store)
{
    /// <summary>For one token at most: two tenths of a second.</summary>
    private const long PerStep = 2_000_000;

    /// <summary>At once at most, over several tokens.</summary>
    private const long Most = 4_000_000;

    /// <summary>What each token adds until it is the most again: two milliseconds.</summary>
    private const long PerToken = 20_000;

    private long _left = Most;

    /// <summary>Does work for the next token.</summary>
    /// <param name="work">The work.</param>
    /// <exception cref="ConstraintException">It takes too much.</exception>
    public void ForToken(Action work)
    {
        _left = Math.Min(Most, _left + PerToken);
        _ = Within(() =>
        {
            work();
            return true;
        });
    }

    /// <summary>Does work.</summary>
    /// <param name="work">The work.</param>
    /// <exception cref="ConstraintException">It takes too much.</exception>
    public T Within<T>(Func<T> work)
    {
        long allowed = Math.Min(PerStep, _left);
        store.WorkLeft = allowed; // whatever another answer has left
        try
        {
            return work();
        }
        catch (ConstraintException e) when (store.WorkLeft < 0 && allowed < PerStep)
        {
            throw new ConstraintException(
                "The constraint takes too long to hold to: token after token leads to states that are new and have to be worked out, for which all other "
                + "answers wait. Write its regular expressions so that fewer parts can match one text, or make their counters smaller.",
                e);
        }
        finally
        {
            _left -= allowed - Math.Max(0, store.WorkLeft);
        }
    }
}
