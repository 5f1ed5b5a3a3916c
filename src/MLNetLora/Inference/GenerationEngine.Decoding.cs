namespace MLNetLora.Inference;

/// <content>Tokens of the rows, and how rows leave.</content>
internal sealed partial class GenerationEngine
{
    /// <summary>One more token of every row.</summary>
    private void Decode()
    {
        for (int i = _rows.Count - 1; i >= 0; i--)
        {
            if (_rows[i].Cancellation.IsCancellationRequested)
            {
                End(_rows[i], new OperationCanceledException(_rows[i].Cancellation));
                Remove(i);
            }
        }

        try
        {
            if (!Verify() && Next())
            {
                Choose();
            }
        }
        catch (Exception e)
        {
            // Of a step that none of these rows can go on from; prompts that are read have memory of their own.
            _rows.ForEach(request => End(request, e));
            FreeRows();
        }
    }

    /// <summary>Takes the newest token of every row.</summary>
    /// <returns>Whether there is a row.</returns>
    private bool Next()
    {
        while (_rows.Count > 0)
        {
            bool hasRun = false;
            try
            {
                _decoder!.MakeRoom();
                hasRun = true;
                using RunCancellation stop = new([.. _rows.Select(request => request.Cancellation)]);
                _decoder.Next([.. _rows.Select(request => request.Last)], stop.Token);
                return true;
            }
            catch (NativeMemoryException e) when (!hasRun || graph.Config.DeltaNet is null) // a recurrent state may be half a step ahead
            {
                GiveWay(e);
            }
        }

        return false;
    }

    /// <summary>Makes memory free: what is kept of earlier prompts, or else the longest row, for whose next token all others would need more, too.</summary>
    private void GiveWay(NativeMemoryException error)
    {
        if (!prefixes.Clear())
        {
            int longest = _decoder!.LongestRow;
            End(_rows[longest], error);
            Drop(longest);
        }
    }

    /// <summary>
    /// Reads a guess of what the only row goes on with. Each token is chosen as ever, from the scores behind the one before; where it is another than was
    /// guessed, what was read behind it is forgotten. Attention takes several tokens behind others for one row alone, and a recurrent state cannot go back.
    /// </summary>
    /// <returns>Whether there was a guess, and memory for it.</returns>
    private bool Verify()
    {
        if (_rows.Count != 1 || graph.Config.DeltaNet is not null || _rows[0].Guess() is not { Length: > 0 } guess)
        {
            return false;
        }

        GenerationRequest request = _rows[0];
        int length = _decoder!.Length(0);
        try
        {
            using RunCancellation stop = new([request.Cancellation]);
            _decoder.Next(new ArraySegment<int>([request.Last, .. guess]), stop.Token);
        }
        catch (NativeMemoryException)
        {
            return false; // the next token alone needs less, and has memory made free
        }

        int held = 0;
        bool hasEnded = Choose(request, _decoder, 0);
        while (!hasEnded && held < guess.Length && request.Last == guess[held])
        {
            held++;
            hasEnded = Choose(request, _decoder, held);
        }

        _decoder.Cut(0, length + 1 + held);
        request.Learn(guess.Length, held);
        if (hasEnded)
        {
            Remove(0);
        }

        return true;
    }

    /// <summary>Chooses every row's next token; those that have ended give their place away.</summary>
    private void Choose()
    {
        bool[] ended = [.. _rows.Select((request, i) => Choose(request, _decoder!, i))];
        for (int i = ended.Length - 1; i >= 0; i--)
        {
            if (ended[i])
            {
                Remove(i);
            }
        }
    }

    /// <summary>Chooses a row's next token.</summary>
    /// <returns>Whether the request has ended with it.</returns>
    private bool Choose(GenerationRequest request, BatchDecoder decoder, int row)
    {
        try
        {
            if (!decoder.IsFinite(row))
            {
                throw new NotFiniteNumberException();
            }

            if (request.Choose(decoder.Logits(row), graph.Config.EosTokenIds) is not { } reason)
            {
                return false;
            }

            _ended.Add(() => request.Complete(reason));
        }
        catch (Exception e)
        {
            End(request, e);
        }

        return true;
    }

    private void Remove(int row)
    {
        Keep(_rows[row], _decoder!, row, _rows[row].Tokens); // the next turn of a conversation begins with this one
        Drop(row);
    }

    private void Drop(int row)
    {
        _decoder!.Remove(row);
        _rows[row] = _rows[^1];
        _rows.RemoveAt(_rows.Count - 1);
        if (_rows.Count == 0)
        {
            FreeRows(); // a long prompt may be read meanwhile, which needs the memory
        }
    }

    private void FreeRows()
    {
        _rows.Clear();
        _decoder?.Dispose();
        _decoder = null;
    }
}
