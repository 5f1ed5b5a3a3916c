namespace MLNetLora.Inference;

/// <content>Prompts that are read, and rows that join the others.</content>
internal sealed partial class GenerationEngine
{
    // Tokens of a prompt between two tokens of the others' answers. On two cores 96 beside 256 cost less than a tenth of all tokens a second, and the
    // others wait two thirds as long; a device wants more at once.
    private const int PartBesideAnswers = 96;
    private const int PartBesideAnswersOnDevice = 256;

    private int TokensAtOnce => Math.Min(PrefillPlan.TokensAtOnce(graph.Config),
        _rows.Count == 0 ? int.MaxValue
        : graph.Device is null ? PartBesideAnswers
        : PartBesideAnswersOnDevice);

    /// <summary>Reads a part of the prompts; those that are read through get their first token.</summary>
    private void Read()
    {
        if (_reading is not { } reading)
        {
            return;
        }

        int done = reading.Decoder.Length(0);
        int part = reading.Requests.Length > 1 ? int.MaxValue : PrefillPlan.Next(reading.Requests[0].Prompt.Length, done, TokensAtOnce);
        using (RunCancellation stop = new([.. reading.Requests.Select(request => request.Cancellation)]))
        {
            try
            {
                PrefillPart next = new(0, reading.Requests.Length, done, part);
                reading.Decoder.Read(0, [.. reading.Requests.Select(request => next.Of(request.Prompt))], stop.Token);
            }
            catch (Exception e)
            {
                if (e is NativeMemoryException && prefixes.Clear())
                {
                    return; // the part is read again
                }

                Array.ForEach(reading.Requests, request => End(request, e));
                FreeReading();
                return;
            }
        }

        if (reading.Requests.Length == 1 && reading.Decoder.Length(0) < reading.Requests[0].Prompt.Length)
        {
            return;
        }

        for (int i = 0; i < reading.Requests.Length; i++)
        {
            Keep(reading.Requests[i], reading.Decoder, i, reading.Requests[i].Prompt);
        }

        if (_rows.Count == 0)
        {
            // Nobody to join: the rows stay where they are.
            (_decoder, _reading) = (reading.Decoder, null);
            _rows.AddRange(reading.Requests);
            Choose();
            return;
        }

        for (int i = 0; i < reading.Requests.Length; i++)
        {
            if (Choose(reading.Requests[i], reading.Decoder, i))
            {
                continue;
            }

            try
            {
                Join(reading.Decoder, i);
                _rows.Add(reading.Requests[i]);
            }
            catch (NativeMemoryException e)
            {
                End(reading.Requests[i], e); // the others go on
            }
        }

        FreeReading();
    }

    private void Join(BatchDecoder decoder, int row)
    {
        try
        {
            _decoder!.Join(decoder, row);
        }
        catch (NativeMemoryException)
        {
            if (!prefixes.Clear())
            {
                throw;
            }

            _decoder!.Join(decoder, row);
        }
    }

    /// <summary>Keeps a row for prompts that begin alike; where there is no memory for it, they are read again.</summary>
    private void Keep(GenerationRequest request, BatchDecoder decoder, int row, ReadOnlySpan<int> tokens)
    {
        if (!UsesPrefixes(request))
        {
            return;
        }

        try
        {
            decoder.Keep(row, request.Adapter, tokens, prefixes);
        }
        catch (NativeMemoryException)
        {
        }
    }

    private void FreeReading()
    {
        _reading?.Decoder.Dispose();
        _reading = null;
    }

    /// <summary>Prompts that are read: one in parts, or several at once.</summary>
    private sealed record Reading(BatchDecoder Decoder, GenerationRequest[] Requests);
}
